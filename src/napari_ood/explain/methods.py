"""The methods by name: what each shows, whether it has a sign, what it costs, what to beware of."""

from __future__ import annotations

from dataclasses import dataclass

from napari_ood.explain.target import KINDS, Kind, Target

PER_COLOUR = "{unit} per full range of a colour"


@dataclass(frozen=True)
class Method:
    """How a saliency map is made.

    Attributes
    ----------
    name, title : for code and for people
    signed : whether values below 0 mean "speaks against"; else all are ≥ 0
    slow : many forward passes: for a chosen tile, with progress
    note : one sentence for the user, caveats first
    unit : of the values; ``{unit}`` is the target's
    natural_scale : whether the display limit follows from the target rather than from sample maps
    targets : the kinds of target that it explains
    by_gradient : whether it needs the target's derivative, which counts don't have
    """

    name: str
    title: str
    signed: bool
    slow: bool
    note: str
    unit: str
    natural_scale: bool = False
    targets: tuple[Kind, ...] = KINDS
    by_gradient: bool = True

    def unit_of(self, target: Target) -> str:
        """Unit of the values for this target."""
        return self.unit.format(unit=target.unit)


_ALL = (
    Method(
        "gradient",
        "Gradient",
        signed=False,
        slow=False,
        note="How strongly a small change of each pixel changes the target; noisy, and no "
        "statement about what would happen if the pixel were gone.",
        unit=PER_COLOUR,
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        signed=False,
        slow=True,
        note="Mean gradient over noisy copies of the tile: less speckle than the gradient, but the "
        "copies are tiles that no scanner would give.",
        unit=PER_COLOUR,
    ),
    Method(
        "integrated_gradients",
        "Integrated gradients",
        signed=True,
        slow=True,
        note="Shares of the difference between the tile and its blurred version, which they add up "
        "to; what blur leaves, such as the mean colour, gets none.",
        unit="{unit} per pixel",
    ),
    Method(
        "guided_backprop",
        "Guided backprop",
        signed=False,
        slow=False,
        note="Edge-like and not faithful: in wide networks the map hardly changes when the weights "
        "are randomised; do not read it as a reason.",
        unit=PER_COLOUR,
    ),
    Method(
        "grad_cam",
        "Grad-CAM",
        signed=False,
        slow=False,
        note="Coarse: feature maps weighted by their mean gradient, what speaks against is cut "
        "off; one cell of the layer covers many pixels and sees more than it covers.",
        unit="{unit} (arbitrary scale)",
    ),
    Method(
        "grad_cam_pp",
        "Grad-CAM++",
        signed=False,
        slow=False,
        note="Coarse: like Grad-CAM with weights that count several small objects alike; only "
        "positive gradients are used, so it shows less of which class is meant.",
        unit="{unit} (arbitrary scale)",
    ),
    Method(
        "layer_cam",
        "LayerCAM",
        signed=False,
        slow=False,
        note="Feature maps weighted place by place by their positive gradient: finer than Grad-CAM "
        "at early layers, and noisier.",
        unit="{unit} (arbitrary scale)",
    ),
    Method(
        "guided_grad_cam",
        "Guided Grad-CAM",
        signed=False,
        slow=False,
        note="Guided backprop times Grad-CAM: its fine detail is that of guided backprop, "
        "edge-like and not faithful.",
        unit="arbitrary",
    ),
    Method(
        "occlusion",
        "Occlusion",
        signed=True,
        slow=True,
        note="How much the target falls when a square is blurred; evidence that is there twice, or "
        "larger than the square, does not show.",
        unit="{unit}",
        by_gradient=False,
        natural_scale=True,
    ),
    Method(
        "rise",
        "RISE",
        signed=True,
        slow=True,
        note="How much higher the target is on average when a place is kept while random other "
        "places are blurred; grainy when few masks are drawn.",
        unit="{unit}",
        by_gradient=False,
        natural_scale=True,
    ),
    Method(
        "perturbation",
        "Meaningful perturbation",
        signed=False,
        slow=True,
        note="The smallest smooth blur that destroys the target (Fong & Vedaldi 2017): 1 where it "
        "blurs, 0 where it does not; evidence that blur leaves, such as colour, does not show.",
        unit="share of blur",
        natural_scale=True,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}
