# SPDX-License-Identifier: Apache-2.0
"""The Space of the Householder projector: a StyleGAN2 edited along orthogonal directions that nobody has labelled."""

import convert_tab
import explore_tab
import gradio as gr
import programs

from eigenhub.hub.space import Space


SENTENCE = (
    "A Householder projector gives every layer of a StyleGAN2 a short list of orthogonal editing directions, without labels. Move "
    "them, see which of them do something, name them, and compare them with SeFa."
)
STYLE = """
#samples .caption-label { display: none; }
.pair { flex-wrap: nowrap !important; }
.pair img, .sheet img { width: 100%; height: auto; object-fit: contain; }
.sheet .image-frame { padding: 2.1rem .6rem .4rem; overflow-x: auto; }
.sliders .block { padding: .35rem .75rem !important; }
#model input, #other input, #layer input { text-overflow: ellipsis; padding-right: 1.75rem !important; }
.heat td { background: color-mix(in srgb, #4f46e5 calc(var(--share, 0%) * .75), transparent); }
.heat td:first-child { background: none; }
.refused { border: 1px solid #dc2626; border-radius: var(--block-radius); padding: .75rem .9rem; }
.refused b { color: #dc2626; }
.refused p { margin: .35rem 0 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { #strip .image-frame { justify-content: flex-start; } #strip img { width: 38rem; max-width: none; }
  .heat th, .heat td { padding: .25rem .2rem !important; font-size: .7rem !important; } }
"""

with Space("householder", "Directions of a StyleGAN2", SENTENCE, style=STYLE) as demo:
    with gr.Tabs() as tabs:
        with gr.Tab("Edit", id="explore"):
            asked, opened = explore_tab.build(demo)
        with gr.Tab("Convert a checkpoint", id="convert"):
            convert_tab.build(tabs, asked, opened)
    programs.build()

if __name__ == "__main__":
    demo.serve()
