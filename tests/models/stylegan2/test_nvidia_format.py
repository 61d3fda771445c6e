# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's pickles: read as data, never run, refused where they hold anything else; and written as tensors."""

import io
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from eigenhub.models.stylegan2 import StyleGAN2Networks, load_checkpoint, load_nvidia, save_nvidia
from eigenhub.models.stylegan2.nvidia_format import nvidia_kwargs, nvidia_state_dict
from eigenhub.models.stylegan2.restricted_pickle import RefusedError, read_pickle
from tests.common.model_case import assert_equal_tensors
from tests.models.stylegan2.nvidia_files import EasyDict, Persistent, dumped, module_tree, nvidia_pickle
from tests.models.stylegan2.tiny import discriminator, gaussian, generator


CONDITIONAL = {
    "c_dim": 3,
    "conv_clamp": 256.0,
    "num_fp16_res": 2,
    "mapping_layers": 3,
    "cmap_dim": 5,
    "cmap_layers": 2,
}


def trio(**overrides):
    return {"G": generator(0, **overrides), "G_ema": generator(1, **overrides), "D": discriminator(2, **overrides)}


def written(folder, data):
    path = folder / "network.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("variant", [{}, CONDITIONAL, {"img_resolution": 32, "channel_base": 256, "img_channels": 1}])
def test_every_tensor_and_setting_arrives(protocol, variant, tmp_path):
    models = trio(**variant)
    path = written(tmp_path, nvidia_pickle(models, protocol))
    networks = load_nvidia(path)
    for key, name in {"G": "generator", "G_ema": "generator_ema", "D": "discriminator"}.items():
        loaded = getattr(networks, name)
        assert_equal_tensors(loaded, models[key])
        assert not loaded.training
        assert nvidia_kwargs(loaded) == nvidia_kwargs(models[key])
    assert "torch_utils" not in sys.modules and "dnnlib" not in sys.modules
    networks.save_pretrained(tmp_path / "out")
    again = StyleGAN2Networks.from_pretrained(tmp_path / "out")
    for key, name in {"G": "generator", "G_ema": "generator_ema", "D": "discriminator"}.items():
        assert_equal_tensors(getattr(again, name), models[key])
    assert (tmp_path / "out" / "discriminator" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "generator_raw" / "model.safetensors").is_file()


def test_flat_and_positional_arguments(tmp_path):
    """stylegan3's code passes the settings of the synthesis network directly; some scripts use positions."""
    model = generator()
    kwargs = nvidia_kwargs(model)
    flat = {"mapping_kwargs": kwargs["mapping_kwargs"], **kwargs["synthesis_kwargs"]}
    tree = module_tree(nvidia_state_dict(model), "Generator", flat)
    tree.meta["state"]["_init_args"] = tuple(kwargs[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution"))
    networks = load_nvidia(written(tmp_path, dumped({"G_ema": tree})))
    assert_equal_tensors(networks.generator_ema, model)
    assert networks.best_generator is networks.generator_ema and networks.discriminator is None


def test_back_to_the_layout_and_again(tmp_path):
    models = trio(**CONDITIONAL)
    networks = StyleGAN2Networks(models["G_ema"], models["G"], models["D"])
    save_nvidia(networks, tmp_path / "out" / "nvidia.pt")
    held = torch.load(tmp_path / "out" / "nvidia.pt", weights_only=True)
    assert set(held) == {"G", "G_ema", "D"}
    names = held["D"]["state_dict"].keys()
    assert {"b16.resample_filter", "b16.fromrgb.resample_filter", "b8.skip.resample_filter"} <= names
    assert "b4.conv.resample_filter" in names and "b4.resample_filter" not in names
    assert "synthesis.b4.resample_filter" in held["G"]["state_dict"]
    assert "synthesis.b8.torgb.resample_filter" not in held["G"]["state_dict"]
    loaded = load_checkpoint(tmp_path / "out" / "nvidia.pt")
    assert_equal_tensors(loaded.generator, models["G"])
    assert_equal_tensors(loaded.discriminator, models["D"])


def test_projectors_are_folded_on_the_way_out(tmp_path):
    model = generator().add_projectors(rank=3)
    z = gaussian(2, 6)
    save_nvidia(StyleGAN2Networks(model), tmp_path / "folded.pt")
    loaded = load_nvidia(tmp_path / "folded.pt").generator_ema
    assert loaded.config.projector_layers is None and model.config.projector_layers == "upsample"
    torch.testing.assert_close(loaded(z).images, model(z).images, rtol=0, atol=2e-5)


def test_reading_needs_no_foreign_code_and_runs_none(tmp_path, monkeypatch):
    """Those names cannot be imported, and the source in the file would end the process."""
    path = written(tmp_path, nvidia_pickle(trio()))
    for module in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        monkeypatch.setitem(sys.modules, module, None)
    assert load_nvidia(path).generator.config.img_resolution == 16


# ---------------------------------------------------------------- malicious and broken files
class Calls:
    """Reduces to a call of anything."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def run_a_command(text):
    raise AssertionError(f"ran {text}")


@pytest.mark.parametrize(
    "thing",
    [
        Calls(__import__("os").system, "touch /tmp/owned"),
        Calls(eval, "1 + 1"),
        Calls(exec, "1 + 1"),
        Calls(getattr, {}, "keys"),
        Calls(__import__, "os"),
        Calls(subprocess.Popen, ["true"]),
        Calls(run_a_command, "this"),
        Calls(torch.load, "other.pt"),
        Calls(np.load, "other.npy"),
        pickle.PicklingError,
        np.zeros(3),
        np.array([{}], dtype=object),
        torch.nn.Linear(2, 2),
        torch.float16,
        complex(1, 2),
        range(3),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_name_that_no_network_needs_is_refused(thing, protocol, tmp_path):
    tree = module_tree({"a.weight": torch.zeros(2)}, "Generator", {})
    tree.meta["state"]["hook"] = thing
    path = written(tmp_path, dumped({"G": tree}, protocol))
    with pytest.raises(RefusedError, match="which no network needs"):
        load_nvidia(path)


def name(path):
    module, _, attribute = path.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def string(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


ORDERED, EASY, SCALAR, DTYPE = (
    name(p) for p in ("collections.OrderedDict", "dnnlib.util.EasyDict", "numpy.core.multiarray.scalar", "numpy.dtype")
)
TENSOR, STORAGE, SET = (
    name(p) for p in ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes", "builtins.set")
)


def storage(numel=4):
    held = io.BytesIO()
    torch.save(torch.zeros(numel).storage(), held, _use_new_zipfile_serialization=False)
    data = held.getvalue()
    return STORAGE + b"B" + struct.pack("<I", len(data)) + data + b"\x85R"


def tensor(offset=b"K\x00", size=b"(K\x02K\x02t", stride=b"(K\x02K\x01t"):
    return TENSOR + b"(" + storage() + offset + size + stride + b"\x89" + ORDERED + b")R" + b"tR"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (ORDERED + b"}" + string("a") + b"K\x01sb", "sets attributes of Name"),  # setattr on a function
        (ORDERED + b"N}" + string("a") + b"K\x01s\x86b", "sets attributes of Name"),
        (ORDERED + b")R}" + string("a") + b"K\x01sb", "sets attributes of OrderedDict"),
        (b"}(K\x01tR", "calls dict"),
        (string("os.system") + b"(K\x01tR", "calls str"),
        (ORDERED + b"K\x01R", "calls Name"),
        (b"(" + string("a") + b"ios\nsystem\n", "makes instances of classes"),
        (b"(" + ORDERED + b"o", "makes instances of classes"),
        (ORDERED + b")}\x92", "makes instances of classes"),
        (string("a") + b"Q", "refers to objects outside"),
        (b"Pid\n", "refers to objects outside"),
        (b"\x82\x01", "uses the extension registry"),
        (name("os.system"), "refers to 'os.system'"),
        (string("posix") + string("system") + b"\x93", "refers to 'posix.system'"),
        (name("dnnlib.tflib.network.Network"), "holds TensorFlow networks: convert it with"),
        (name("torch_utils.persistence._reconstruct_persistent_obj") + b"K\x01\x85R", "not the description"),
        (EASY + string("ab") + b"\x85R", "a dictionary of str"),
        (SET + b"](]e\x85R", "a set of something else"),
        (DTYPE + string("O8") + b"\x85R", "numpy data of dtype object"),
        (DTYPE + string("V8") + b"\x85R", r"numpy data of dtype \|V8"),
        (
            DTYPE + string("f8") + b"\x85R" + b"(K\x03" + string("<") + string("a") + b"NNtb",
            "a numpy dtype with the state",
        ),
        (SCALAR + string("f8") + b"B\x00\x00\x00\x00\x86R", "a number without a dtype"),
        (SCALAR + DTYPE + string("f8") + b"\x85R" + b"B\x04\x00\x00\x00abcd\x86R", "buffer size must be a multiple"),
        (STORAGE + b"B\x04\x00\x00\x00abcd\x85R", "cannot be used as the file does"),
        (STORAGE + string("a") + b"\x85R", "a storage of str"),
        (tensor(offset=b"K\x01"), "a tensor of size"),
        (tensor(size=b"(K\x03K\x02t"), "a tensor of size"),
        (tensor(stride=b"(K\x00K\x00t", size=b"(M\xff\xffM\xff\xfft"), "a tensor of size"),  # a bomb of 16 GB
        (tensor(offset=b"J\xff\xff\xff\xff"), "a tensor of size"),
        (tensor(size=b"(" + string("2") + b"K\x02t"), "a tensor of size"),
        (name("torch._utils._rebuild_parameter") + b"(K\x01\x89NtR", "a parameter that is int"),
        (name("_codecs.encode") + b"(" + string("a") + string("rot13") + b"tR", "another encoding than latin1"),
    ],
)
def test_an_instruction_that_no_network_needs_is_refused(body, message, tmp_path):
    path = written(tmp_path, b"\x80\x04" + body + b".")
    with pytest.raises(RefusedError, match=message):
        read_pickle(path)


def test_the_pieces_of_those_files_are_sound(tmp_path):
    """The same instructions with nothing wrong in them."""
    assert read_pickle(written(tmp_path, b"\x80\x04" + tensor() + b".")).shape == (2, 2)
    number = SCALAR + DTYPE + string("f8") + b"\x85R" + b"B\x08\x00\x00\x00" + struct.pack("<d", 1.5) + b"\x86R"
    assert read_pickle(written(tmp_path, b"\x80\x04" + number + b".")) == 1.5


def test_a_storage_that_hides_a_pickle_is_refused(tmp_path):
    held = io.BytesIO()
    torch.save(Calls(eval, "1 + 1"), held, _use_new_zipfile_serialization=False)
    data = held.getvalue()
    body = STORAGE + b"B" + struct.pack("<I", len(data)) + data + b"\x85R"
    with pytest.raises(RefusedError, match="_load_from_bytes' cannot be used"):
        read_pickle(written(tmp_path, b"\x80\x04" + body + b"."))


def test_truncated_files_say_so(tmp_path):
    whole = nvidia_pickle({"G": generator(img_resolution=8)})
    for length in (0, 1, 2, 100, len(whole) // 2, len(whole) - 1):
        path = written(tmp_path, whole[:length])
        with pytest.raises(ValueError, match="is no pickle that can be read"):
            read_pickle(path)
    for data in (b"GIF89a", b"PK\x03\x04 no archive", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f"):
        with pytest.raises(ValueError, match="that can be read|more memory"):
            load_nvidia(written(tmp_path, data))


def test_changed_bytes_never_do_worse_than_an_error(tmp_path):
    """Flipped bytes in the instructions: a network or a `ValueError`, nothing else."""
    whole = bytearray(nvidia_pickle({"G": generator(img_resolution=8, channel_max=2)}))
    places = [position for _, _, position in pickletools.genops(bytes(whole))]
    draws = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in draws.choice(places, 2):
            data[place] = draws.integers(0, 256)
        try:
            load_nvidia(written(tmp_path, bytes(data)))
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.meta.update(class_name="SynthesisNetwork"), "`G` of the checkpoint is a SynthesisNetwork"),
        (
            lambda t: t.meta["state"]["_init_kwargs"].update(noise="fft"),
            "made with noise='fft', which is not supported",
        ),
        (
            lambda t: t.meta["state"]["_init_kwargs"]["synthesis_kwargs"].update(architecture="orig"),
            "made with architecture='orig', which is not supported",
        ),
        (
            lambda t: t.meta["state"]["_init_kwargs"].update(img_resolution=12),
            "`img_resolution` must be a power of two",
        ),
        (lambda t: t.meta["state"]["_init_kwargs"].update(img_resolution=32), "is no StyleGAN2Generator: missing"),
        (lambda t: t.meta["state"]["_init_kwargs"].update(w_dim=9), "must have shape"),
        (lambda t: t.meta["state"]["_modules"].pop("mapping"), "missing .*mapping.fc0"),
        (lambda t: t.meta["state"]["_modules"].update(again=t.meta["state"]["_modules"]["mapping"]), "is shared"),
        (
            lambda t: t.meta["state"]["_parameters"].update(extra=3),
            "`extra` of the checkpoint must be a tensor, got int",
        ),
        (lambda t: t.meta["state"]["_modules"].update(extra=3), "module 'extra.' of the checkpoint is shared"),
        (lambda t: t.meta["state"]["_parameters"].update(extra=torch.nn.Parameter(torch.zeros(1))), "unexpected"),
        (
            lambda t: (
                t.meta["state"]["_modules"]["synthesis"]
                .meta["state"]["_modules"]["b8"]
                .meta["state"]["_buffers"]
                .update(resample_filter=torch.ones(4, 4))
            ),
            r"resample_filter` must be the filter \[1, 3, 3, 1\]",
        ),
        (
            lambda t: (
                t.meta["state"]["_modules"]["synthesis"]
                .meta["state"]["_modules"]
                .update(input=module_tree({"freqs": torch.zeros(2, 2)}, "SynthesisInput", {}))
            ),
            "is a StyleGAN3 generator, which is not supported",
        ),
    ],
)
def test_other_networks_are_refused_by_name(change, message, tmp_path):
    model = generator()
    kwargs = {k: EasyDict(v) if isinstance(v, dict) else v for k, v in nvidia_kwargs(model).items()}
    tree = module_tree(nvidia_state_dict(model), "Generator", kwargs)
    change(tree)
    with pytest.raises(ValueError, match=message):
        load_nvidia(written(tmp_path, dumped({"G": tree})))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": 1}, r"must hold one of G_ema, G, D, got the keys \['x'\]"),
        ([1, 2], "must hold one of G_ema, G, D, got list"),
        ({"G": 3}, "must hold one of G_ema, G, D"),
        ({"G": {"a": 1}}, "`G` of the checkpoint must be a network, got dict"),
        ({"G": Persistent("Generator", {})}, "is no StyleGAN2Generator: missing"),
    ],
)
def test_other_files_are_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_nvidia(written(tmp_path, dumped(data)))


def test_nothing_to_write():
    with pytest.raises(ValueError, match="`networks` must hold at least one network"):
        save_nvidia(StyleGAN2Networks(), "nowhere.pt")
    with pytest.raises(ValueError, match="the checkpoint holds no generator"):
        StyleGAN2Networks(discriminator=discriminator()).save_pretrained("nowhere")
