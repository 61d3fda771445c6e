# SPDX-License-Identifier: Apache-2.0
r"""Forward and backward pass of a time-invariant diagonal system, block by block.

Nearly all arithmetic is in the products with $\bar B$ and $C$. States exist for one block at a time; what is kept for
the backward pass is the state before each chunk. The backward pass makes the states of a block again and runs the
adjoint recurrence $g_k = C^\mathsf{H} \nabla y_k + \overline{\bar\lambda} \odot g_{k+1}$ against the direction of
travel, in its conjugate $q_k = \overline{g_k}$: then both recurrences have the same diagonal, and
$\nabla\bar\lambda = \overline{\sum_k q_k \odot x_{k-1}}$ needs no conjugate inside the sum.
"""

import torch
from torch import Tensor

from eigenhub.linalg.scan_blocks import Block
from eigenhub.linalg.scan_recurrence import travel
from eigenhub.linalg.scan_system import Projector, System, emit


def forward_pass(system: System, keep_states: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, final state, states (empty unless kept) and the state before each chunk, complex numbers as pairs.

    Args:
        system (`System`): system and input.
        keep_states (`bool`): whether the states of every step are wanted.
    """
    layout, diagonal, reverse, final = system.layout, system.diagonal, system.reverse, system.state.clone()
    y = torch.empty_like(system.u, memory_format=torch.contiguous_format)
    states = final.new_empty((layout.batch, layout.length, layout.states) if keep_states else 0)
    before = final.new_empty(layout.batch, layout.all_chunks, layout.states)
    for block in layout.blocks(reverse):
        source = system.source(block)
        product, x = system.drives(block, source)
        if block.entering:
            carry = torch.zeros_like(final[block.rows])
        slices = travel(x, reverse)
        entered, carry = diagonal.enter(slices, carry, reverse)
        diagonal.run(slices, entered)
        before[block.rows, layout.chunks_of(block)] = entered
        steps = x.flatten(1, 2)
        if found := system.final(block):
            where, inside = found
            final[block.rows] = torch.where(inside, steps[where], final[block.rows])
        if keep_states:
            states[block.rows, block.steps] = steps[:, : source.shape[1]]
        emit(y[block.rows, block.steps], product, system.w_out.mT, source, system.d)
    return y, torch.view_as_real(final), torch.view_as_real(states), torch.view_as_real(before)


class Adjoint:
    """The backward pass: sums over the blocks, in the conjugate form of this file.

    Args:
        system (`System`): system and input of the forward pass.
        before (`Tensor` of shape `(batch, chunks, states, 2)`): the state before each chunk, from there.
        grad_y (`Tensor` of shape `(batch, length, features)`): gradient of the outputs.
        grad_final (`Tensor` of shape `(batch, states, 2)`): gradient of the final state.
        grad_states (`Tensor` of shape `(batch, length, states, 2)` or empty): gradient of the states, if they were
            kept.
        needed (`list[bool]`): which gradients of `u, lbar, w_in, w_out, d` are wanted. For a frozen system three of
            the five products fall away.
    """

    def __init__(
        self,
        system: System,
        before: Tensor,
        grad_y: Tensor,
        grad_final: Tensor,
        grad_states: Tensor,
        needed: list[bool],
    ) -> None:
        self.system, self.before, self.grad_y = system, torch.view_as_complex(before), grad_y
        self.q_final, self.q_states = _conjugate(grad_final), _conjugate(grad_states) if grad_states.numel() else None
        # q in place of g: what belongs to imaginary parts changes its sign
        self.sign = system.w_in.new_tensor([1.0, -1.0]).repeat(system.layout.states)
        self.drive, self.out = Projector(system.layout, system.w_out * self.sign), system.w_in * self.sign[:, None]
        self.needs_u, self.needs_lbar, self.needs_in, self.needs_out, self.needs_d = needed
        self.u = system.u.new_empty(system.u.shape if self.needs_u else 0)
        self.w_in, self.w_out = torch.zeros_like(system.w_in), torch.zeros_like(system.w_out)
        self.d = torch.zeros_like(system.w_in[0])
        self.lbar = torch.zeros_like(system.diagonal.one, dtype=system.diagonal.wide)
        # a row of no steps hands its initial state through
        self.state = torch.where(system.last[:, None] < 0, self.q_final, 0)

    def run(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients of `u, lbar, w_in, w_out, d, state`, the complex ones as pairs."""
        for block in self.system.layout.blocks(not self.system.reverse):
            if block.entering:
                carry = torch.zeros_like(self.state[block.rows])
            carry = self._block(block, carry)
        lbar, state = (torch.view_as_real(z.conj_physical()) for z in (self.lbar, self.state))
        return self.u, lbar, self.w_in * self.sign[:, None], self.w_out, self.d, state

    def _block(self, block: Block, carry: Tensor) -> Tensor:
        system, against = self.system, not self.system.reverse
        source, grads = system.source(block), self.grad_y[block.rows, block.steps].to(system.w_in.dtype)
        adjoint, q = self._load(block, grads)
        slices = travel(q, against)
        entered, carry = system.diagonal.enter(slices, carry, against)
        system.diagonal.run(slices, entered)
        self._add_states(block, source, grads, slices[::-1])
        self._add_inputs(source, grads, adjoint)
        if block.has(system.first):
            self._add_initial(block, q.flatten(1, 2)[:, system.first - block.steps.start])
        if self.needs_u:
            emit(self.u[block.rows, block.steps], adjoint, self.out, grads, system.d)
        return carry

    def _load(self, block: Block, grads: Tensor) -> tuple[Tensor, Tensor]:
        """Drives of the adjoint recurrence: of the outputs, of the final state, of the states."""
        adjoint, q = self.drive(grads)
        steps = q.flatten(1, 2)
        if found := self.system.final(block):
            where, inside = found
            steps.index_put_(where, torch.where(inside, self.q_final[block.rows], 0), accumulate=True)
        if self.q_states is not None:
            steps[:, : grads.shape[1]] += self.q_states[block.rows, block.steps]
        return adjoint, q

    def _add_states(self, block: Block, source: Tensor, grads: Tensor, q: list[Tensor]) -> None:
        """Add what needs the states: q_k x_{k-1}, with the slices of `q` in the order of travel, and grad_y_k x_k."""
        if not (self.needs_lbar or self.needs_out):
            return
        system = self.system
        product, x = system.drives(block, source)
        entered = self.before[block.rows, system.layout.chunks_of(block)]
        slices = travel(x, system.reverse)
        system.diagonal.run(slices, entered)
        if self.needs_lbar:
            total = entered * q[0]
            for previous, adjoint in zip(slices[:-1], q[1:], strict=True):
                total.addcmul_(previous, adjoint)
            self.lbar += total.sum((0, 1))
        if self.needs_out:
            self.w_out.addmm_(grads.flatten(0, 1).mT, product.flatten(0, 1))

    def _add_inputs(self, source: Tensor, grads: Tensor, adjoint: Tensor) -> None:
        """Add what needs the inputs: q_k u_k and grad_y_k u_k."""
        if self.needs_in:
            self.w_in.addmm_(adjoint.flatten(0, 1).mT, source.flatten(0, 1))
        if self.needs_d:
            self.d += (grads * source).sum((0, 1))

    def _add_initial(self, block: Block, q: Tensor) -> None:
        """Add what the initial state is for, which went in as a drive; `q` is the adjoint state of the first step."""
        self.lbar += (q * self.system.state[block.rows]).sum(0)
        self.state[block.rows] += self.system.diagonal.one * q


def _conjugate(pairs: Tensor) -> Tensor:
    """Complex conjugate in memory: the lazy kind is lost in an operator that a compiled graph calls."""
    return torch.view_as_complex(pairs.contiguous()).conj_physical()
