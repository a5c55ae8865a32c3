"""What people say about regions: verdicts, kept safe on disk, and how far they agree.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.review.agreement import (
        ErrorRate,
        Kappa,
        PairAgreement,
        Proportion,
        cohens_kappa,
        error_rate,
    )
    from napari_ood.review.matching import Match, Matches, match_verdicts
    from napari_ood.review.places import review_folder, run_identity
    from napari_ood.review.store import ReviewStore
    from napari_ood.review.verdicts import Artefact, Kind, Verdict

_HOME = {
    "ErrorRate": "agreement",
    "Kappa": "agreement",
    "PairAgreement": "agreement",
    "Proportion": "agreement",
    "cohens_kappa": "agreement",
    "error_rate": "agreement",
    "Match": "matching",
    "Matches": "matching",
    "match_verdicts": "matching",
    "ReviewStore": "store",
    "review_folder": "places",
    "run_identity": "places",
    "Artefact": "verdicts",
    "Kind": "verdicts",
    "Verdict": "verdicts",
}

__all__ = [
    "Artefact",
    "ErrorRate",
    "Kappa",
    "Kind",
    "Match",
    "Matches",
    "PairAgreement",
    "Proportion",
    "ReviewStore",
    "Verdict",
    "cohens_kappa",
    "error_rate",
    "match_verdicts",
    "review_folder",
    "run_identity",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
