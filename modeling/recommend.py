"""`python -m modeling.recommend`: what the model recommends to one user, or to a cold-start user with a history.

Enters: a user's key, or item keys oldest first; the champion of a dataset, or its last trained model, with the tables
that it was trained on. Leaves: the top items with titles and log-probabilities on standard output and, on request, as a
page; both say which model answered.
Trade-off: the prompt is rendered here anew, by the same functions as the prompts stage, so that any history can be
asked about; the model is loaded for one question, which costs seconds.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import schema
from features.errors import InputError, ParamsError, VIP5Error
from features.prompts import rendering
from features.prompts.templates import Prompt, load_templates
from features.runtime.stage import configure_logging
from features.store.tables import from_rows, read_table
from features.vision.photo_store import PhotoStore

if TYPE_CHECKING:
    import pyarrow as pa

    from modeling.serving.request import Catalogue, Line, Person

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The ranking of one person."""

    prompt: Prompt
    source: str
    shown: tuple[int, ...]
    """The part of the history that the prompt shows."""
    items: tuple[int, ...]
    """Best first; nothing of the history is among them."""
    scores: tuple[float, ...]
    """Log-probability of each, nats."""


def chosen_prompt(prompts: Sequence[Prompt], person: "Person", wanted: str | None) -> Prompt:
    """The prompt to ask with: `wanted`; else A-3 for a user and, for a cold-start user, A-6, which has A-3's words.

    Where the templates are others and these do not fit, the first trained prompt that fits.

    Raises:
        ParamsError: no prompt fits, or `wanted` does not: it must ask for an item, and a cold-start user has no number.
    """
    fitting = {
        prompt.id: prompt
        for prompt in prompts
        if prompt.family == "sequential"
        and not prompt.asks_yes_no
        and (person.number is not None or "{user_id}" not in prompt.source)
    }
    trained = [prompt.id for prompt in fitting.values() if not prompt.held_out]
    usual = "A-3" if person.user_id is not None else "A-6"
    key = wanted or (usual if usual in fitting else next(iter(trained), "none"))
    if key not in fitting:
        raise ParamsError(
            f"prompt {key} for {person.label}", f"one of: {', '.join(fitting) or 'none fits'}", "choose one by --prompt"
        )
    return fitting[key]


def recommend(line: "Line", person: "Person", *, prompt: Prompt, top_k: int) -> Answer:
    """The `top_k` best items for `person`, by the constrained search over everything that is not in the history."""
    import numpy as np

    from modeling.data.prompt_dataset import PhotoTable, PromptDataset
    from modeling.decoding.constrained_search import constrained_beam_search
    from modeling.evaluation.rank_prompts import catalogue_of
    from modeling.models.checkpoints import load_vip5, read_manifest

    photo = rendering.photo(max(1, read_manifest(line.places, "train")["num_visual_tokens"]))
    model, tokens = load_vip5(line.places)
    identifiers = read_table(line.places.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
    texts = dict(zip(identifiers["item_id"].to_pylist(), identifiers["text"].to_pylist(), strict=True))
    photos = None if model.visual is None else PhotoTable.load(line.places.table("images/embeddings"))
    shown = line.cut(person.history)
    slots = {
        "user_id": str(person.number), "user_name": person.name,
        "history": rendering.COMMA.join(
            rendering.item_with_photo(texts[item], photo) for item in shown
        ),
    }  # fmt: skip
    source = rendering.render_source(prompt, slots)
    corpus = PromptDataset(_row(prompt, source, shown, texts[shown[-1]]), tokens, photos)
    catalogue = catalogue_of(identifiers, tokens)
    allowed = np.ones((1, catalogue.num_items), np.bool_)
    allowed[0, np.array(person.history) - 1] = False
    ranked = constrained_beam_search(model, corpus.batch([0]), catalogue.tree, allowed, beam=line.beam, top_k=top_k)
    kept = ranked.items[0] > 0  # fewer than top_k where the catalogue has no more
    return Answer(
        prompt=prompt, source=source, shown=shown,
        items=tuple(ranked.items[0][kept].tolist()), scores=tuple(ranked.scores[0][kept].tolist()),
    )  # fmt: skip


def _row(prompt: Prompt, source: str, shown: Sequence[int], target: str) -> "pa.Table":
    """The one row of a prompt table that the corpus reads; the target only fills its column."""
    row = {
        "example_id": 0, "split": "test", "family": prompt.family, "prompt_id": prompt.id, "variant": "published",
        "round": 0, "user_id": 1, "target_item_id": None, "image_item_ids": list(shown), "candidate_item_ids": None,
        "source": source, "target": target,
    }  # fmt: skip
    return from_rows(schema.prompts("test", prompt.family), [row])


def lines(line: "Line", person: "Person", answer: Answer, catalogue: "Catalogue") -> list[str]:
    """What is printed: who was asked about, which model answers, then rank, log-probability, key and title of items."""
    known, shown = len(person.history), len(answer.shown)
    told = f"{known} items known, {shown} of them shown to the model, prompt {answer.prompt.id}"
    found = [f"{line.places.dataset}, {person.label}: {told}", f"model: {line.model}"]
    width = max((len(catalogue.rows[item]["item_key"]) for item in answer.items), default=0)
    for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1):
        key, title = catalogue.rows[item]["item_key"], catalogue.rows[item]["title"]
        found.append(f"{rank:>3}  {score:8.3f}  {key:<{width}}  {title or '-'}")
    return found


def write_page(path: Path, line: "Line", person: "Person", answer: Answer, catalogue: "Catalogue") -> None:
    """The same as a self-contained page, with photos where the dataset has them.

    Raises:
        InputError: the page cannot be written there.
    """
    from modeling.reporting import html

    store = None
    if line.photos is not None and line.photos.is_dir():
        store = PhotoStore(line.photos)
    elif line.photos is not None:
        log.warning("recommend: no photo folder %s: the page shows no photos", line.photos)

    def item(item_id: int) -> html.Item:
        data = store.bytes(catalogue.rows[item_id]["item_key"]) if store else None
        return html.Item(label=catalogue.label(item_id), photo=data)

    parts = html.recommendation(
        person=f"{person.label}, dataset {line.places.dataset}; model: {line.model}",
        prompt=f"{answer.prompt.id}: {answer.source}",
        history=[item(i) for i in person.history],
        num_shown=len(answer.shown),
        top=[(item(i), score) for i, score in zip(answer.items, answer.scores, strict=True)],
    )
    try:
        path.write_text(html.page("Recommendations", parts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} ({error.strerror})", "a file that can be written", "choose another --page") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the best items for one user of the dataset, or for a cold-start user."""
    arguments = _parser().parse_args(argv)
    configure_logging()
    from modeling.serving import request

    try:
        line = request.load_line(arguments.params, arguments.dataset, challenger=arguments.challenger)
        catalogue = request.Catalogue.load(line.places)
        if arguments.user is not None:
            person = request.known_person(line.places, arguments.user, held_out=arguments.held_out)
        else:
            keys = [key.strip() for key in arguments.history.split(",") if key.strip()]
            person = request.new_person(catalogue, keys)
        prompt = chosen_prompt(load_templates(line.templates), person, arguments.prompt)
        answer = recommend(line, person, prompt=prompt, top_k=arguments.top_k)
        sys.stdout.write("\n".join(lines(line, person, answer, catalogue)) + "\n")
        if arguments.page is not None:
            write_page(arguments.page, line, person, answer, catalogue)
    except VIP5Error as error:
        log.error("recommend: %s", error)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modeling.recommend", description=main.__doc__)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="KEY", help="a user of the dataset, by the dump's own key")
    who.add_argument(
        "--history", metavar="KEY,KEY,...", help="item keys, oldest first, of a person who is not in the dataset"
    )
    parser.add_argument(
        "--held-out", action="store_true", help="leave the test item out of --user's history, as `evaluate` does"
    )
    parser.add_argument("--top-k", type=_positive, default=10, metavar="N", help="items named (default: %(default)s)")
    parser.add_argument("--prompt", metavar="ID", help="a sequential prompt that asks for an item, such as A-3")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the same as a page, with photos")
    add_model_arguments(parser)
    return parser


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which model answers, as this command and `recommend_all` have them."""
    parser.add_argument(
        "--challenger", action="store_true", help="ask the last trained model even where there is a champion"
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"),
        help="YAML file that names the dataset; a champion has parameters of its own (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME", help="a dataset that has a champion or that a profile was run for")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
