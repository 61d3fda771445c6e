# SPDX-License-Identifier: Apache-2.0
"""Names of directions: into an archive that a visitor takes home, out of one, and out of folders and repositories."""

import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
from finding import Found, find
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from names import FACTORS, JOIN, MAX_NAME, MIB
from visits import Choice, Visit

from eigenhub.hub.space import download_folder
from eigenhub.models.stylegan2 import LabelledDirections, StyleGAN2Generator, load_directions, save_directions
from eigenhub.models.stylegan2.direction_files import LABELS_NAME, VECTORS_NAME


FOLDER = "directions"
MISSING = f"there is no {VECTORS_NAME} with {LABELS_NAME}"
MAX_ARCHIVE = 64 * MIB
#: A factor gives its name to a direction that moves it by this share of its range, and by so much more than the next one.
CLEAR_CHANGE, CLEAR_LEAD = 0.05, 1.3


def write_archive(choice: Choice, visit: Visit) -> tuple[str, dict[str, LabelledDirections]]:
    """
    A ZIP archive with a folder `directions`, for `load_directions` and for this page.

    Args:
        choice (`Choice`): whose model is written.
        visit (`Visit`): with the names. A layer with names in several bases is written in the one that was named last.

    Returns:
        Path of the archive, and what is in it by layer.
    """
    layers = {}
    for (model, layer, basis), names in visit.names.items():
        if model == choice.model:
            place = replace(choice, layer=layer, basis=basis)
            found = find(place, visit)
            shown = basis if basis != "saved" else visit.saved[model, layer].basis
            layers[layer] = LabelledDirections(found.directions, shown, dict(names))
    if not layers:
        raise ValueError("no direction of this generator has a name yet")
    folder = download_folder()
    save_directions(folder / FOLDER, layers)
    path = folder / f"{FOLDER}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (VECTORS_NAME, LABELS_NAME):
            archive.write(folder / FOLDER / name, f"{FOLDER}/{name}")
    return str(path), layers


def read_archive(path: str) -> dict[str, LabelledDirections]:
    """
    Directions of an archive; only the two files that matter are unpacked.

    Args:
        path (`str`): a ZIP archive.
    """
    folder = download_folder()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in (VECTORS_NAME, LABELS_NAME):
                members = [m for m in archive.infolist() if Path(m.filename).name == name]
                if len(members) != 1 or members[0].file_size > MAX_ARCHIVE:
                    raise ValueError(f"the archive must hold one {name} of up to {MAX_ARCHIVE // MIB} MiB")
                (folder / name).write_bytes(archive.read(members[0]))
    except zipfile.BadZipFile as error:
        raise ValueError("it is no ZIP archive") from error
    return load_directions(folder)


def load_names(name: str) -> dict[str, LabelledDirections]:
    """
    Directions of a folder or a repository, in the folder `directions` or directly.

    Args:
        name (`str`): a folder on this machine, or a Hub id.
    """
    if Path(name).is_dir():
        folder = Path(name) / FOLDER if (Path(name) / FOLDER).is_dir() else Path(name)
        if all((folder / file).is_file() for file in (VECTORS_NAME, LABELS_NAME)):
            return load_directions(folder)
        raise ValueError(MISSING)
    for below in (f"{FOLDER}/", ""):
        try:
            paths = [Path(hf_hub_download(name, below + file)) for file in (VECTORS_NAME, LABELS_NAME)]
            return load_directions(paths[0].parent)
        except EntryNotFoundError:
            continue
        except httpx.HTTPError as error:
            raise OSError(str(error)) from error
    raise ValueError(MISSING)


def fitting(model: StyleGAN2Generator, given: dict[str, LabelledDirections]) -> dict[str, LabelledDirections]:
    """The directions, if they are of this kind of generator."""
    known = {layer.name for layer in model.config.style_layers}
    for layer, labelled in given.items():
        vectors, scores = labelled.directions
        if not known.issuperset(layer.split(JOIN)):
            raise ValueError(f"this generator has no layer {layer}")
        if vectors.ndim != 2 or len(vectors) != model.config.w_dim or scores.shape != vectors.shape[1:]:
            raise ValueError(
                f"directions of {layer} have the shape {tuple(vectors.shape)}, and this generator reads {model.config.w_dim} numbers"
            )
        if not vectors.isfinite().all():
            raise ValueError(f"directions of {layer} are not all finite")
    return given


def taken(choice: Choice, visit: Visit, given: dict[str, LabelledDirections]) -> Visit:
    """The visit with directions that were loaded, under the basis "saved"."""
    saved = dict(visit.saved)
    names = dict(visit.names)
    for layer, labelled in given.items():
        saved[choice.model, layer] = labelled
        place = (choice.model, layer, "saved")
        names.pop(place, None)
        if labelled.labels:
            names[place] = {k: " ".join(text.split())[:MAX_NAME] for k, text in sorted(labelled.labels.items())}
    return Visit(names, saved, visit.kept)


def suggested(found: Found) -> dict[int, str]:
    """Names by the known factor that a direction moves, where one stands out."""
    if found.factors is None:
        return {}
    names = {}
    for k, row in enumerate(found.factors):
        change, factor = row.sort(descending=True)
        if not found.dead[k] and change[0] > CLEAR_CHANGE and change[0] > CLEAR_LEAD * change[1]:
            names[k] = list(FACTORS.values())[int(factor[0])]
    return names
