"""A procedural section: everything that a block of it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.samples import structures as st
from napari_ood.samples.anatomy import CELL, LYMPHOID_PARTS, Anatomy, Part, lay_out, stroma_mask
from napari_ood.samples.epithelium import Cells, Gland
from napari_ood.samples.foreign import Planted, nothing, plant
from napari_ood.samples.noise import Field, lattice, lookup, smooth_noise, soften, texture
from napari_ood.samples.sprites import (
    ANGLES,
    ANGLES_ROUND,
    Bank,
    FibreShape,
    NucleusShape,
    bank,
    fibre,
    nucleus,
    red_cell,
)
from napari_ood.samples.squamous import PITCH
from napari_ood.samples.stains import Stain

TISSUES = ("stroma", "gland", "lymphoid")
"""The tissue classes of a procedural section, labels 1, 2, 3 of its tissue truth."""

#: Haematoxylin and eosin of the ground substance of each compartment.
GROUND = {
    Part.GLASS: (0.0, 0.0),
    Part.MUCOSA: (0.07, 0.17),
    Part.MUSCLE_THIN: (0.05, 0.26),
    Part.SUBMUCOSA: (0.01, 0.035),
    Part.MUSCLE: (0.05, 0.34),
    Part.LYMPHOID: (0.10, 0.16),
    Part.GERMINAL: (0.12, 0.26),
    Part.SINUS: (0.03, 0.07),
    Part.CAPSULE: (0.03, 0.22),
    Part.SQUAMOUS: (0.15, 0.4),
}

FIBRES = {
    "collagen": FibreShape(190, 17, 7, e=0.62, h=0.03, opacity=0.86, fibril_px=2.6),
    "fibril": FibreShape(95, 3.6, 6, e=0.48, h=0.03, opacity=0.75, fibril_px=2.0),
    "cleft": FibreShape(130, 7.5, 6, e=0.03, h=0.01, opacity=0.92, fibril_px=3.0),
    "muscle": FibreShape(210, 13, 3, e=0.66, h=0.07, opacity=0.72, fibril_px=1.7),
}

NUCLEI = {
    "lymphocyte": NucleusShape(6.6, 6.0, 0.09, 1.75, 0.22, 0.25, 3.0, 1.6, 0.22, 0.28, 0.1),
    "plasma": NucleusShape(6.3, 5.8, 0.08, 1.65, 0.26, 0.2, 3.2, 4.2, 0.42, 0.38, 0.75),
    "fibroblast": NucleusShape(15.5, 3.1, 0.16, 1.5, 0.15, 0.15, 2.5, bend=0.5),
    "cigar": NucleusShape(15.0, 3.6, 0.14, 1.15, 0.15, 0.25, 2.5, bend=0.12),
    "blast": NucleusShape(9.4, 8.2, 0.12, 0.95, 0.25, 0.5, 3.0, 2.4, 0.25, 0.36, 0.1, nucleoli=2),
    "histiocyte": NucleusShape(
        10, 6.6, 0.12, 0.85, 0.2, 0.45, 3.0, 6.0, 0.06, 0.3, 0.2, nucleoli=1
    ),
    "endothelium": NucleusShape(13.0, 2.8, 0.15, 1.5, 0.12, 0.1, 2.5, bend=0.3),
}


@dataclass(frozen=True)
class Section:
    """One section, described; :mod:`napari_ood.samples.render` draws any box of it."""

    size: int
    seed: int
    stain: Stain
    anatomy: Anatomy
    planted: Planted
    ground: Field
    thickness: Field
    nest: Field
    glands: tuple[Gland, ...]
    vessels: tuple[st.Vessel, ...]
    surface: Cells
    fibres: st.Marks
    nuclei: st.Marks
    red: NDArray[np.float32]
    red_amount: NDArray[np.float32]
    squamous: NDArray[np.float32]
    fibre_banks: tuple[Bank, ...]
    nucleus_banks: tuple[Bank, ...]
    red_bank: tuple[Field, ...]
    textures: dict[str, Field]
    tissue: NDArray[np.uint8]


def describe(size: int, seed: int, foreign: bool) -> Section:
    """Describe a section: the same for the same arguments.

    Parameters
    ----------
    size : int
        Side of the square slide, px of 0.5 µm; a multiple of 8, at least 1,024.
    seed : int
        Seed of everything drawn by chance.
    foreign : bool
        Whether to plant foreign regions.
    """
    rng = [np.random.default_rng((seed, stream)) for stream in range(8)]
    anatomy = lay_out(rng[0], size)
    planted = plant(rng[1], anatomy) if foreign else nothing(anatomy)
    glands, gland_cells = st.place_glands(rng[2], anatomy)
    vessels, vessel_cells = st.place_vessels(rng[3], anatomy)
    nest = anatomy.part == Part.SQUAMOUS
    lining = anatomy.depth < st.SURFACE_HEIGHT - 4
    fibres = st.scatter(rng[4], anatomy, st.FIBRES, tuple(FIBRES), nest)
    nuclei = st.scatter(
        rng[5], anatomy, st.NUCLEI, tuple(NUCLEI), gland_cells | vessel_cells | nest | lining
    )
    wall_nuclei, red, red_amount = st.place_cells_of_vessels(rng[3], vessels)
    nuclei = st.append(nuclei, wall_nuclei, tuple(NUCLEI).index("endothelium"))
    squamous = lattice(rng[6], (size, size), PITCH, 0.2)
    squamous = squamous[lookup(ndimage.binary_dilation(nest, iterations=8), CELL, squamous)]
    span = float(np.abs(anatomy.along).max()) + 50
    return Section(
        size=size,
        seed=seed,
        stain=Stain.draw(rng[7]),
        anatomy=anatomy,
        planted=planted,
        ground=_ground(anatomy),
        thickness=_thickness(rng[7], anatomy),
        nest=_signed_distance(nest),
        glands=tuple(glands),
        vessels=tuple(vessels),
        surface=Cells.draw(rng[6], -span, span, st.SURFACE_HEIGHT - 4, 0.25),
        fibres=fibres,
        nuclei=nuclei,
        red=red,
        red_amount=red_amount,
        squamous=squamous,
        fibre_banks=tuple(_fibre_bank(rng[4], shape) for shape in FIBRES.values()),
        nucleus_banks=tuple(_nucleus_bank(rng[5], shape) for shape in NUCLEI.values()),
        red_bank=tuple(red_cell(rng[3]) for _ in range(24)),
        textures=_textures(rng[7]),
        tissue=_tissue_truth(anatomy, gland_cells),
    )


def _fibre_bank(rng: np.random.Generator, shape: FibreShape) -> Bank:
    return bank(lambda: fibre(rng, shape), 10, ANGLES)


def _nucleus_bank(rng: np.random.Generator, shape: NucleusShape) -> Bank:
    angles = ANGLES if shape.long > 1.5 * shape.short else ANGLES_ROUND
    return bank(lambda: nucleus(rng, shape), 14, angles)


def _textures(rng: np.random.Generator) -> dict[str, Field]:
    return {
        "grain": texture(rng, 1024, (3.0, 3.0)),
        "mottle": texture(rng, 1024, (14.0, 14.0), 1.5),
        "warp": texture(rng, 1024, (70.0, 70.0), 2.0),
        "streaks": texture(rng, 512, (3.0, 60.0)),
        "noise": rng.standard_normal((1024, 1024)).astype(np.float32),
    }


def _ground(anatomy: Anatomy) -> Field:
    """Stains of the ground substance ``(2, y, x)`` on the coarse grid."""
    table = np.zeros((2, len(Part)), np.float32)
    for part, stains in GROUND.items():
        table[:, part] = stains
    # glass takes its neighbour's ground, so that the section's edge does not fade out
    nearest = ndimage.distance_transform_edt(
        anatomy.part == Part.GLASS, return_distances=False, return_indices=True
    )
    filled = anatomy.part[nearest[0], nearest[1]]
    return np.stack([soften(table[k][filled], 0.8) for k in range(2)])


def _thickness(rng: np.random.Generator, anatomy: Anatomy) -> Field:
    """Local amount of haematoxylin and eosin ``(2, y, x)``: uneven cut and uneven staining."""
    shape = anatomy.part.shape
    cut = 0.05 * smooth_noise(rng, shape, 1500 / CELL) + 0.04 * smooth_noise(rng, shape, 300 / CELL)
    stains = [np.exp(cut + 0.05 * smooth_noise(rng, shape, 2500 / CELL)) for _ in range(2)]
    return np.stack(stains).astype(np.float32)


def _signed_distance(mask: NDArray[np.bool_]) -> Field:
    """Distance to the rim of a mask, px, > 0 inside; -1000 everywhere when the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, -1000, np.float32)
    inside, outside = (ndimage.distance_transform_edt(m) * CELL for m in (mask, ~mask))
    return soften((inside - outside).astype(np.float32), 2.5)


def _tissue_truth(anatomy: Anatomy, gland_cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Tissue class per coarse cell: 0 none or unknown, then :data:`TISSUES`."""
    tissue = np.zeros(anatomy.part.shape, np.uint8)
    tissue[stroma_mask(anatomy)] = 1
    near_gland = ndimage.distance_transform_edt(~gland_cells) * CELL < 60
    lining = anatomy.depth < st.SURFACE_HEIGHT
    tissue[(anatomy.part == Part.MUCOSA) & (near_gland | lining)] = 2
    tissue[np.isin(anatomy.part, LYMPHOID_PARTS)] = 3
    return tissue
