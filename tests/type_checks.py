"""Type checks of calls in the tests: types, and dtypes and shapes of tensors and arrays, as annotated.

`check_annotations` makes every function of `CHECKED` check its arguments and its result in this process; without it,
annotations have no effect. It must be called before these packages and modules are imported.
"""

from jaxtyping import install_import_hook

CHECKED = (
    "features.encoders",
    "features.vision.preprocessing",
    "modeling.baselines",
    "modeling.collaborative",
    "modeling.data",
    "modeling.decoding",
    "modeling.kernels",
    "modeling.metrics",
    "modeling.models",
)
# As for mypy, an int may stand for a float.
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"


def check_annotations() -> None:
    install_import_hook(CHECKED, _CHECKER)
