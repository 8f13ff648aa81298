"""`python -m modeling.recommend`: recommends items to one user of the dataset, or to a cold-start user.

Reads a user key, or item keys oldest first, and the champion of a dataset (or its last trained model) with the tables
it was trained on; prints the top items with titles and log-probabilities and optionally writes them as a page. Both
outputs name the model that answered. The prompt is rendered on request by the functions of the prompts stage, so any
history works; loading the model takes seconds.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import InputError, ParamsError, VIP5Error
from features.prompts.templates import Prompt, load_templates
from features.runtime.faults import environment_faults
from features.runtime.remedies import for_profile
from features.runtime.stage import configure_logging
from features.store.durable import write_text
from features.vision.key_lists import read_photo_keys
from features.vision.photo_names import PhotoNames
from features.vision.photo_store import PhotoStore

if TYPE_CHECKING:
    from modeling.serving.recommender import Answer
    from modeling.serving.request import Catalogue, PipelineSettings, RequestUser

log = logging.getLogger("vip5")


def chosen_prompt(prompts: Sequence[Prompt], user: "RequestUser", wanted: str | None) -> Prompt:
    """Returns the prompt to use: `wanted`, otherwise A-3 for a user and A-6 (same wording) for a cold-start user.

    If the templates lack these, the first suitable prompt seen in training is used.

    Raises:
        ParamsError: no prompt is suitable, or `wanted` is not. A prompt must ask for an item; for a cold-start user it
            must not contain a user number.
    """
    fitting = {
        prompt.id: prompt
        for prompt in prompts
        if prompt.family == "sequential"
        and not prompt.asks_yes_no
        and (user.number is not None or "{user_id}" not in prompt.source)
    }
    trained = [prompt.id for prompt in fitting.values() if not prompt.held_out]
    usual = "A-3" if user.user_id is not None else "A-6"
    key = wanted or (usual if usual in fitting else next(iter(trained), "none"))
    if key not in fitting:
        raise ParamsError(
            f"prompt {key} for {user.label}", f"one of: {', '.join(fitting) or 'none fits'}", "choose one with --prompt"
        )
    return fitting[key]


def lines(settings: "PipelineSettings", user: "RequestUser", answer: "Answer", catalogue: "Catalogue") -> list[str]:
    """Returns the lines to print: user, model, then rank, log-probability, key and title per item."""
    known, shown = len(user.history), len(answer.shown)
    summary = f"{known} items known, {shown} of them shown to the model, prompt {answer.prompt.id}"
    printed = [f"{settings.places.dataset}, {user.label}: {summary}", f"model: {settings.model}"]
    width = max((len(catalogue.rows[item]["item_key"]) for item in answer.items), default=0)
    for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1):
        key, title = catalogue.rows[item]["item_key"], catalogue.rows[item]["title"]
        printed.append(f"{rank:>3}  {score:8.3f}  {key:<{width}}  {title or '-'}")
    return printed


def write_page(
    path: Path, settings: "PipelineSettings", user: "RequestUser", answer: "Answer", catalogue: "Catalogue"
) -> None:
    """Writes the recommendations as a self-contained page, with photos if the dataset has them.

    Raises:
        InputError: `path` cannot be written.
    """
    from modeling.reporting import html

    store = None
    if settings.photos is not None and settings.photos.exists():
        listed = {} if settings.photo_keys is None else read_photo_keys(settings.photo_keys)
        keys = [row["item_key"] for row in catalogue.rows.values()]
        store = PhotoStore(settings.photos, PhotoNames(keys, listed))
    elif settings.photos is not None:
        log.warning("recommend: no photo folder %s: the page shows no photos", settings.photos)

    def item(item_id: int) -> html.Item:
        data = store.bytes(catalogue.rows[item_id]["item_key"]) if store else None
        return html.Item(label=catalogue.label(item_id), photo=data)

    answered = html.recommendation(
        user=f"{user.label}, dataset {settings.places.dataset}; model: {settings.model}",
        prompt=f"{answer.prompt.id}: {answer.source}",
        history=[item(i) for i in user.history],
        num_shown=len(answer.shown),
        top=[(item(i), score) for i, score in zip(answer.items, answer.scores, strict=True)],
    )
    try:
        write_text(path, html.page("Recommendations", [answered]))
    except OSError as error:
        raise InputError(f"{path} ({error.strerror})", "a file that can be written", "choose another --page") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print the best items for one user of the dataset, or for a cold-start user."""
    arguments = _parser().parse_args(argv)
    configure_logging()
    from modeling.serving import recommender, request

    try:
        with environment_faults():
            settings = request.load_settings(arguments.params, arguments.dataset, challenger=arguments.challenger)
            catalogue = request.Catalogue.load(settings.places)
            if arguments.user is not None:
                user = request.known_user(settings.places, arguments.user, held_out=arguments.held_out)
            else:
                keys = [key.strip() for key in arguments.history.split(",") if key.strip()]
                user = request.cold_start_user(catalogue, keys)
            prompt = chosen_prompt(load_templates(settings.templates), user, arguments.prompt)
            answer = recommender.recommend(settings, user, prompt=prompt, top_k=arguments.top_k)
            sys.stdout.write("\n".join(lines(settings, user, answer, catalogue)) + "\n")
            if arguments.page is not None:
                write_page(arguments.page, settings, user, answer, catalogue)
    except VIP5Error as error:
        log.error("recommend: %s", for_profile(error, arguments.params, arguments.dataset))
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modeling.recommend", description=main.__doc__)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="KEY", help="key of a user, as in the dump")
    who.add_argument("--history", metavar="KEY,KEY,...", help="item keys of a cold-start user, oldest first")
    parser.add_argument(
        "--held-out", action="store_true", help="drop the test item from the history of --user, as `evaluate` does"
    )
    parser.add_argument(
        "--top-k", type=_positive, default=10, metavar="N", help="number of items (default: %(default)s)"
    )
    parser.add_argument("--prompt", metavar="ID", help="id of a sequential prompt, such as A-3")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write an HTML page with photos")
    add_model_arguments(parser)
    return parser


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select the model; `recommend_all` shares them."""
    parser.add_argument(
        "--challenger", action="store_true", help="use the last trained model even if there is a champion"
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"),
        help="YAML file that names the dataset; a champion uses its own parameters (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME", help="dataset with a champion, or for which a profile was run")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
