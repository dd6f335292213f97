"""The commands for models and labelled recordings: their options and help texts."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from core.checkpoints.registry import DEFAULT_CHECKPOINT
from core.cli.options import (
    AsJson,
    Labels,
    ModelDir,
    Only,
    app,
    examples,
    model_app,
)
from core.errors import FolderRefused
from core.paths import default_model


@app.command(**examples("evaluate labelled.csv", "evaluate labelled.csv --map mad=anger,bored= --json"))
def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help="CSV file with the columns path and emotion, or dimensions.", show_default=False)
    ],
    model: ModelDir = None,
    labels: Annotated[
        str,
        typer.Option(
            "--map", help="Translate labels: mad=anger,calm=neutral. An empty emotion (bored=) skips the label."
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for the metrics. A second run continues there.")] = Path(
        "out/evaluation"
    ),
    as_json: AsJson = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, without the earlier results.")] = False,
    compare: Annotated[
        Path | None,
        typer.Option(help="Folder of another model to compare with on the same recordings.", show_default=False),
    ] = None,
) -> None:
    """Measure the accuracy of the model on your labelled recordings.

    The optional columns speaker and condition give intervals over speakers, and figures for each.

    The exit status is 1 if a recording failed.
    """
    from core.cli.evaluate import evaluate_manifest

    model_dir = model or default_model()
    raise typer.Exit(evaluate_manifest(manifest, model_dir, out, labels, as_json=as_json, fresh=fresh, compare=compare))


@app.command(**examples("train labelled.csv --from build/checkpoint --out build/trained"))
def train(  # noqa: PLR0913, PLR0917 (each is an option)
    manifest: Annotated[
        Path,
        typer.Argument(
            help="CSV file with the columns path and emotion, and optionally speaker, start_s, end_s and channel.",
            show_default=False,
        ),
    ],
    start: Annotated[Path, typer.Option("--from", help="Checkpoint to start from.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained checkpoint.", show_default=False)],
    names: Annotated[
        str, typer.Option("--map", help="Translate labels: mad=anger,calm=neutral. An empty emotion (bored=) skips it.")
    ] = "",
    cache: Annotated[
        Path, typer.Option(help="Folder from which a run that was interrupted continues. It may be deleted.")
    ] = Path("out/training-cache"),
    unfreeze: Annotated[
        str | None,
        typer.Option(
            help="Train this number of upper layers of the encoder too, or `all`. Default: all for networks of less "
            "than 10 million parameters, and 0 for others.",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[int, typer.Option(min=0, help="Train LoRA matrices of this rank instead of whole layers.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs for layers and LoRA; tested networks may stop early.")] = 9,
    augment: Annotated[
        str,
        typer.Option(help="Also train with changed copies: some of telephone, noise, reverb and gain, or none."),
    ] = "telephone,noise,reverb,gain",
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder with recordings of noise. Default: generated noise.", show_default=False),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of folds to test. Default: all; with layers or LoRA one, because each takes as long as the "
            "training.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split and another network.")] = 1,
) -> None:
    """Train a checkpoint on your labelled recordings, and measure it on speakers that it was not trained on."""
    from core.cli.train import train_checkpoint
    from core.training.augmentation import parse_kinds
    from core.training.tuning import ALL_LAYERS

    if unfreeze not in (None, "all") and not unfreeze.isdecimal():
        raise typer.BadParameter("--unfreeze needs a number of layers, or all.")
    layers = ALL_LAYERS if unfreeze == "all" else None if unfreeze is None else int(unfreeze)
    train_checkpoint(
        manifest,
        start,
        out,
        names,
        cache,
        augment=parse_kinds(augment),
        noise=noise,
        unfreeze=layers,
        lora_rank=lora,
        epochs=epochs,
        folds=folds,
        seed=seed,
    )


@model_app.command("list", **examples("model list"))
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with an object per checkpoint.")] = False,
) -> None:
    """List the known checkpoints: languages, size, licence, labels, training speech and published accuracy."""
    from core.cli.checkpoints import list_checkpoints

    list_checkpoints(as_json=as_json)


@model_app.command(**examples("model pull", "model pull wav2vec2-xlsr-en --out build/checkpoint"))
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A name in `audio-emotion model list`, or the owner/name of any checkpoint on the Hub. Default: "
            f"{DEFAULT_CHECKPOINT}; with --from, the name of the folder if it has another network.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")] = Path("build/checkpoint"),
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch, tag, commit, or pull request such as refs/pr/2. Default: the revision in the list of known "
            "checkpoints, or the main branch.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="HF_ENDPOINT", help="Another server with the Hub's API.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Copy the checkpoint from this folder instead.", show_default=False)
    ] = None,
    normalise: Annotated[
        Literal["clip", "none"] | None,
        typer.Option(
            help="Whether the network computes clips that are scaled to zero mean and unit variance. Needed if the "
            "repository has no preprocessor_config.json.",
            show_default=False,
        ),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that forbids commercial use.")
    ] = False,
) -> None:
    """Download a checkpoint from the Hugging Face Hub, and record its commit.

    The licence is printed before the download.
    """
    from core.cli.checkpoints import pull_checkpoint

    pull_checkpoint(
        name,
        out,
        revision=revision,
        endpoint=endpoint,
        folder=folder,
        is_normalised=None if normalise is None else normalise == "clip",
        is_licence_accepted=accept_licence,
    )


@model_app.command(
    **examples(
        "model export build/checkpoint build/model", "model export build/checkpoint build/model --labels excited=happy"
    )
)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder with a checkpoint of Hugging Face or FunASR.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the serving package.", show_default=False)],
    precision: Annotated[
        str,
        typer.Option(help="int8, int8-ffn, fp32, or auto, which chooses the first that agrees with the checkpoint."),
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder with speech on which to compare the package with the checkpoint too."),
    ] = None,
    labels: Labels = "",
    only: Only = "",
) -> None:
    """Export a checkpoint as a serving package, if both classify the clips alike."""
    from core.checkpoints.files import check_folder

    check_folder(checkpoint)  # before PyTorch is imported and the clips are decoded
    if calibration and not calibration.is_dir():
        raise FolderRefused(f"{calibration} is not a folder.")
    from core.cli.export import export_package

    raise typer.Exit(export_package(checkpoint, out, precision, calibration, labels=labels, only=only))
