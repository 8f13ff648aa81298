"""Lists the profiles of a checkout; standard library only, so that `make setup` can use it before any installation."""

from pathlib import Path

from features.runtime.names import is_name


def profile_names(root: Path = Path()) -> list[str]:
    """The sorted names of the files `profiles/NAME.yaml` in `root`; files that are not safely named are left out."""
    return sorted(path.stem for path in (root / "profiles").glob("*.yaml") if is_name(path.stem))
