"""The model card, written from the figures so that it cannot disagree with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pythia.embedded.text import split_pages

CARD = "README.md"

Figures = Mapping[str, Any]

_TEMPLATE = """\
---
license: apache-2.0
language: en
library_name: transformers
tags: [gpt_neox]
---

# The embedded model: a small GPT-NeoX

`sensverify` ships this language model so that every command, test and claim runs without a download. It
is Pythia's architecture in the small, trained on six novels by Jane Austen. It is a test subject for
interpretability, not a source of facts or advice; it imitates the manner of its novels and knows nothing
else.

## Architecture

`GPTNeoXForCausalLM`: {blocks} blocks with parallel residual, {hidden_size} wide, {heads} heads of
{head_size}, rotary positions on 25 % of each head ({rotary} dimensions), GELU, untied embeddings,
{context} positions; {parameters:,} parameters, stored as float16.

The tokenizer is byte-level BPE with {vocabulary:,} tokens, learnt from the training part alone. Token 0,
`<|endoftext|>`, ends a text and begins a sequence; every training window begins with it, so give it to
the model first. The tokenizer does not add it by itself, and any text survives encoding and decoding
unchanged.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from pythia.embedded import FOLDER

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="float32")
```

## Text

*Emma*, *Mansfield Park*, *Northanger Abbey*, *Persuasion*, *Pride and Prejudice* and *Sense and
Sensibility*, as transcribed in the R package janeaustenr. The novels (1811 to 1817) are in the public
domain; the package is under the MIT licence. Nothing else was trained on.

Clean-up, the same for training and held-out text: lines are unwrapped inside paragraphs, runs of spaces
become one, paragraphs are separated by one blank line, and the modern editor's note that closes
*Northanger Abbey* is cut. Characters are counted after it. Text that is still hard-wrapped will look
unusual to the model.

Split: the last 5 % of each novel, from the first paragraph after the 95 % mark, is held out. No part of
it was used to fit, to stop or to choose anything.

| novel | training characters | held-out characters |
|---|---:|---:|
{novels}

`held_out_pages.txt` holds the opening pages of the {documents} held-out parts, {page_characters:,}
characters in all. A line with a single form feed (`\\f`) separates one document from the next.

## Training

{epochs} passes over {training_tokens:,} tokens: {steps:,} steps of {batch} windows of {context} tokens,
{tokens_seen:,} tokens seen. Each pass cuts the novels into windows at fresh random offsets and shuffles
them. AdamW (β {beta1}, {beta2}; weight decay {weight_decay} on matrices), peak learning rate
{learning_rate} after {warm_up_steps} steps of warm-up, cosine decay to {final_percent:g} % of it,
gradients clipped at norm {clip:g}, dropout {dropout} on embeddings and on each half-block's output. The
schedule alone decides the end. Seed {seed}; {minutes:.0f} minutes of wall time on {machine}, shared with
other work.

The defaults of learning rate and batch were set by trials of 150 to 280 steps, scored on the ends of the
training parts; the held-out parts were not looked at.

## Figures

Nats, with 95 % bootstrap intervals over {held_windows} held-out windows ({resamples:,} draws). The
float16 weights were loaded as float32. All models score the same tokens; contexts are reset every
{context} tokens for all alike, with `<|endoftext|>` in front of the network's windows. The training
column is every {stride}th window of the training part, dropout off; the count models have those very
windows in their counts.

| | held out, per token | held out, per character | training, per token | training, per character |
|---|---:|---:|---:|---:|
{rows}

The trigram model is interpolated modified Kneser-Ney over the same tokens; the unigram model is the same
estimator at order 1. At a window's first two tokens the trigram model falls back on unigram and bigram models of
their own. If its context is never reset, which the network is not granted, it scores {unbroken} nats per
token. Paired over windows, the network is better than the trigram model by {gain} nats per token. Held
out means {held_tokens:,} tokens, {held_characters:,} characters.

The held-out parts are the last chapters of novels whose earlier chapters were trained on: names and
style are familiar, the sentences are not. Nothing is claimed for other authors.

## Samples

The first three seeds, unpicked: {sample_tokens} tokens after `<|endoftext|>`, at temperature
{temperature}, from `torch.Generator().manual_seed(seed)`.

{samples}

## Retrain

```
python -m pythia.embedded.train --text-dir TEXTS --out OUT       # --device cuda, --resume
python -m pythia.embedded.evaluate --text-dir TEXTS --model OUT  # figures.json, held_out_pages.txt, this card
```

`TEXTS` holds one `.txt` file per novel. The same text, recipe, thread count and library build give the
same bits on the same kind of CPU. `figures.json` holds the figures above, `training.json` the record of
the run.
"""


def write_card(figures: Figures, pages: str) -> str:
    """Return the model card in Markdown, for the figures of :func:`pythia.embedded.evaluate.figures`."""
    training, held_out = figures["training"], figures["held_out"]
    recipe = training["recipe"]
    shape = recipe["shape"]
    head_size = shape["hidden_size"] // shape["heads"]
    first = figures["samples"][0]
    return _TEMPLATE.format(
        **shape,
        **{key: value for key, value in recipe.items() if key not in ("shape", "betas", "final_share")},
        head_size=head_size,
        rotary=head_size // 4,
        parameters=figures["weights"]["parameters"],
        novels="\n".join(_novel_row(name, sizes) for name, sizes in training["novels"].items()),
        documents=len(split_pages(pages)),
        page_characters=len(pages),
        training_tokens=training["training_tokens"],
        steps=training["steps"],
        tokens_seen=training["tokens_seen"],
        beta1=recipe["betas"][0],
        beta2=recipe["betas"][1],
        final_percent=100 * recipe["final_share"],
        minutes=training["seconds"] / 60,
        machine=training["machine"],
        held_windows=held_out["windows"],
        held_tokens=held_out["tokens"],
        held_characters=held_out["characters"],
        resamples=figures["bootstrap"]["resamples"],
        stride=figures["training_sample"]["every_nth_window"],
        rows="\n".join(_figure_row(figures, name) for name in ("model", "trigram", "unigram")),
        unbroken=held_out["trigram_with_unbroken_context_nats_per_token"],
        gain=_interval(held_out["trigram_minus_model"]["nats_per_token"]),
        sample_tokens=first["tokens"],
        temperature=first["temperature"],
        samples="\n\n".join(_sample(each) for each in figures["samples"]),
    )


def _novel_row(name: str, sizes: Figures) -> str:
    title = name.replace("_", " ")
    return f"| {title} | {sizes['training_characters']:,} | {sizes['held_out_characters']:,} |"


def _figure_row(figures: Figures, name: str) -> str:
    cells = [
        _interval(figures[part][name][unit])
        for part in ("held_out", "training_sample")
        for unit in ("nats_per_token", "nats_per_character")
    ]
    label = {"model": "**this model**", "trigram": "Kneser-Ney trigram", "unigram": "unigram"}[name]
    return f"| {label} | {' | '.join(cells)} |"


def _interval(figure: Figures) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _sample(sample: Figures) -> str:
    return f"Seed {sample['seed']}:\n\n```text\n{sample['text']}\n```"
