import copy
import dataclasses
import json
import sys
import types

import pytest
import torch

from pythia.corpus import TextOptions, read_corpus, read_subject
from pythia.gallery import CardGroup, gallery, presences
from pythia.invariance import measure_scaling
from pythia.loading import load_model
from pythia.positions import Allowed
from pythia.readout import LanguageModelReadout
from pythia.site import open_site
from pythia.sparsity import median_share_interval
from pythia.subject import corpus as corpus_of_run
from sensverify.claims import Run, Subject
from sensverify.errors import InputError, MissingExtraError
from sensverify.sites import SiteOptions

pytest.importorskip("transformers")
huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(str(tiny_model_folder))


def test_windows_open_with_bos_and_hold_no_other(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16)
    for windows in (corpus.search, corpus.held_out):
        assert (windows[:, 0] == model.bos).all()
        assert (windows[:, 1:] != model.bos).all()


def test_windows_are_the_text_and_nothing_else(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16, limit=10_000)
    ids = [token for part in (corpus.search, corpus.held_out) for row in part for token in row[1:].tolist()]
    text = tiny_text.read_text()
    assert text.startswith(model.tokenizer.decode(ids))
    assert len(model.tokenizer(text)["input_ids"]) == len(ids) + corpus.dropped_tokens


def test_search_and_evaluation_share_no_window(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16)
    search = {tuple(row) for row in corpus.search.tolist()}
    assert not search & {tuple(row) for row in corpus.held_out.tolist()}


def test_form_feeds_separate_documents(model, tmp_path, tiny_text):
    path = tmp_path / "two.txt"
    path.write_text(tiny_text.read_text() + "\n\f\n" + tiny_text.read_text())
    assert read_corpus(model, path, length=16).documents == 2


def test_a_limit_takes_a_sample_fixed_by_the_seed(model, tiny_text):
    first, again, other = (read_corpus(model, tiny_text, length=16, limit=20, seed=seed).search for seed in (1, 1, 2))
    assert len(first) == 20
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("content", [b"", b"  \n\n ", b"a few words"])
def test_empty_or_short_text_is_refused(model, tmp_path, content):
    path = tmp_path / "short.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected .*text"):
        read_corpus(model, path)


def test_bytes_that_are_not_utf8_are_refused(model, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(InputError, match="UnicodeDecodeError"):
        read_corpus(model, path)


def test_a_context_longer_than_the_model_is_refused(model, tiny_text):
    with pytest.raises(InputError, match="a context length from 4 to 64"):
        read_corpus(model, tiny_text, length=65)


# --- Formats ---------------------------------------------------------------------------------------------------


def pages(count, words=40, seed=0):
    """Documents of about ``words`` words, no two the same."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = ["quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "while", "seven", "wise", "owls"]
    return [
        " ".join(vocabulary[i] for i in torch.randint(len(vocabulary), (words + number % 5,), generator=generator))
        for number in range(count)
    ]


def as_lines(path, records):
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    return path


def same_windows(one, other):
    return one.search.equal(other.search) and one.held_out.equal(other.held_out)


def test_json_lines_are_the_documents_of_a_text_file(model, tmp_path):
    documents = pages(30)
    plain = tmp_path / "all.txt"
    plain.write_text("\f".join(documents))
    lines = as_lines(tmp_path / "all.jsonl", [{"id": i, "text": one} for i, one in enumerate(documents)])
    corpora = [read_corpus(model, path, length=16) for path in (plain, lines)]
    assert same_windows(*corpora)
    assert corpora[1].documents == 30


@pytest.mark.parametrize("name", ["all.JSONL", "all.ndjson", "ALL.NdJson"])
def test_json_lines_are_known_by_their_ending_in_either_case(model, tmp_path, name):
    records = [{"text": one} for one in pages(30)]
    expected, found = (read_corpus(model, as_lines(tmp_path / one, records), length=16) for one in ("all.jsonl", name))
    assert same_windows(expected, found)


@pytest.mark.parametrize("name", ["all.jsonl", "all.txt"])
def test_a_byte_order_mark_is_no_part_of_the_text(model, tmp_path, name):
    content = json.dumps({"text": " ".join(pages(30))}) if name.endswith("l") else "\n".join(pages(30))
    corpora = []
    for mark in ("", "\ufeff"):
        path = tmp_path / name
        path.write_text(mark + content, encoding="utf-8")
        corpora.append(read_corpus(model, path, length=16))
    assert same_windows(*corpora)


@pytest.mark.parametrize("name", ["all.json", "all.JSON"])
def test_a_single_json_document_is_refused_with_the_format_that_is_read(model, tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps([{"text": one} for one in pages(30)]))
    with pytest.raises(InputError, match=r"one JSON object a line.*remedy: write one object a line") as caught:
        read_corpus(model, path, length=16)
    assert "\n" not in str(caught.value)


def test_the_field_of_json_lines_can_be_named(model, tmp_path):
    path = as_lines(tmp_path / "other.jsonl", [{"text": 3, "body": one} for one in pages(30)])
    named = read_corpus(model, path, length=16, options=TextOptions(field="body"))
    assert named.documents == 30
    with pytest.raises(InputError, match=r"'text' in line 1 of .*other\.jsonl, got a int there"):
        read_corpus(model, path, length=16)


@pytest.mark.parametrize(
    ("line", "told"),
    [("{not json", "got no JSON object"), ("[1, 2]", "got no JSON object"), ('{"body": "a"}', "an object with 'body'")],
)
def test_a_line_that_is_no_document_is_named(model, tmp_path, line, told):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"text": "a quick fox"}) + "\n\n" + line + "\n")
    with pytest.raises(InputError, match=rf"line 3 of .*{told}"):
        read_corpus(model, path, length=16)


def test_a_long_collection_is_not_read_to_its_end(model, tmp_path):
    path = as_lines(tmp_path / "long.jsonl", [{"text": one} for one in pages(400)])
    with path.open("a") as file:
        file.write("{broken, far behind what is needed")
    assert read_corpus(model, path, length=16, limit=16).documents < 200


def test_parquet_is_read_by_column(model, tmp_path):
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    path = tmp_path / "all.parquet"
    documents = pages(30)
    table = pyarrow.table({"story": [*documents, None], "number": list(range(31))})
    parquet.write_table(table, path)
    lines = as_lines(tmp_path / "all.jsonl", [{"story": one} for one in documents])
    options = TextOptions(field="story")
    corpora = [read_corpus(model, one, length=16, options=options) for one in (path, lines)]
    assert same_windows(*corpora)
    with pytest.raises(InputError, match=r"a column 'text'.*'story', 'number'"):
        read_corpus(model, path, length=16)
    with pytest.raises(InputError, match=r"row 1 of .*, got a int there"):
        read_corpus(model, path, length=16, options=TextOptions(field="number"))
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="a readable Parquet file"):
        read_corpus(model, path, length=16)


@pytest.mark.parametrize(
    ("package", "text", "line"),
    [("pyarrow", "some.parquet", "sensverify[parquet]"), ("datasets", "hf:some/name", "sensverify[datasets]")],
)
def test_without_an_optional_package_the_line_that_installs_it_is_told(model, monkeypatch, package, text, line):
    for name in [package, f"{package}.parquet"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as missing:
        read_corpus(model, text, length=16)
    assert line in str(missing.value)


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub that cannot be asked for commits."""

    def refuse(self, name, *, revision, timeout):
        raise TimeoutError(name)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)


class Hub:
    """Stands for the package ``datasets``: streams pages without end, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.given = 0

    def load_dataset(self, name, configuration, *, split, streaming, revision):
        self.asked.append((name, configuration, split, streaming, revision))
        if name == "nobody/nothing":
            raise FileNotFoundError("no such data set, token hf_abcdefghij given")
        for seed in range(10_000):
            for page in pages(10, seed=seed):
                self.given += 1
                yield {"content": page}


@pytest.mark.usefixtures("silent_hub")
@pytest.mark.parametrize("length", [16, 64])  # documents longer than a window, and shorter
@pytest.mark.parametrize("packing", ["packed", "documents"])
def test_a_data_set_on_the_hub_is_streamed_as_far_as_needed(model, monkeypatch, length, packing):
    hub = Hub()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    options = TextOptions(field="content", packing=packing)
    corpus = read_corpus(model, "hf:some/name:en:validation", length=length, limit=20, options=options)
    assert hub.asked == [("some/name", "en", "validation", True, None)]
    assert hub.given == corpus.documents < 400
    assert corpus.to_json()["text"] == "hf:some/name:en:validation"
    assert corpus.to_json()["text_commit"] is None
    with pytest.raises(InputError, match=r"'train' of 'nobody/nothing'.*token \*\*\* given"):
        read_corpus(model, "hf:nobody/nothing", length=16)


@pytest.mark.parametrize(("revision", "asked"), [("", None), ("@v2", "v2")])
def test_a_data_set_is_read_at_the_commit_that_its_revision_is_at_and_results_name_it(
    model, monkeypatch, revision, asked
):
    def info(self, name, *, revision, timeout):
        assert (name, revision) == ("some/name", asked)
        return types.SimpleNamespace(sha="c0ffee")

    hub = Hub()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    corpus = read_corpus(model, f"hf:some/name{revision}:en", length=16, limit=20, options=TextOptions(field="content"))
    assert hub.asked == [("some/name", "en", "train", True, "c0ffee")]
    assert corpus.to_json()["text_commit"] == "c0ffee"


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("offline", [True, False])
def test_without_a_connection_a_data_set_is_looked_for_in_the_cache_alone(model, monkeypatch, offline, cached):
    asked, patient = [], []

    def refuse(self, name, *, revision, timeout):
        asked.append(name)
        raise ConnectionRefusedError("nobody listens")

    class Cached(Hub):
        config = types.SimpleNamespace(HF_HUB_OFFLINE=False)

        def load_dataset(self, *arguments, **options):
            patient.append(not self.config.HF_HUB_OFFLINE)
            if not cached:
                raise ConnectionError("Couldn't reach the hub (OfflineModeIsEnabled)")
            return super().load_dataset(*arguments, **options)

    library = Cached()
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back as it was afterwards
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    monkeypatch.setattr("pythia.hub.PAUSE", 0.0)
    options = TextOptions(field="content", offline=offline)
    if cached:
        assert read_corpus(model, "hf:some/name", length=16, limit=20, options=options).documents
    else:
        why = "--offline" if offline else "no connection to .*nobody listens"
        with pytest.raises(InputError, match=rf"got {why}.*, and nothing of it in the cache"):
            read_corpus(model, "hf:some/name", length=16, limit=20, options=options)
    assert asked == ([] if offline else ["some/name"] * 2)
    assert patient == [False]
    assert not library.config.HF_HUB_OFFLINE  # a later run may have a network


def test_windows_are_told_apart_by_what_they_say_not_by_the_file_they_come_from(model, tmp_path):
    prints = []
    for name, seed in (("a.txt", 1), ("b.txt", 1), ("a.txt", 2)):
        (tmp_path / name).write_text("\f\n".join(pages(60, 60, seed=seed)))
        prints.append(read_corpus(model, tmp_path / name, length=16, limit=20).to_json()["windows_sha256"])
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.usefixtures("silent_hub")
@pytest.mark.parametrize("name", ["hf:", "hf:@main", "hf:a@", "hf:a:b:c:d"])
def test_a_name_of_no_data_set_is_refused(model, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "datasets", Hub())
    with pytest.raises(InputError, match="hf:NAME"):
        read_corpus(model, name, length=16)


# --- Documents and padding -------------------------------------------------------------------------------------

SHORT = TextOptions(packing="documents")


@pytest.fixture(scope="module")
def short_pages(tmp_path_factory):
    """Sixty documents of 5 to 29 words: most are shorter than a window, some longer than two."""
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(5, 30, (60,), generator=generator).tolist()
    documents = [page for number, words in enumerate(lengths) for page in pages(1, words, seed=number)]
    return as_lines(tmp_path_factory.mktemp("short") / "short.jsonl", [{"text": one} for one in documents]), documents


def parts(corpus):
    return (corpus.search, corpus.search_real), (corpus.held_out, corpus.held_out_real)


def test_in_documents_every_token_of_a_document_is_in_windows_of_its_own(model, short_pages):
    path, documents = short_pages
    corpus = read_corpus(model, path, length=16, options=SHORT)
    tokenised = [model.tokenizer(one)["input_ids"] for one in documents]
    kept = [row[real].tolist() for tokens, mask in parts(corpus) for row, real in zip(tokens, mask, strict=True)]
    expected = [ids[i : i + 15] for ids in tokenised for i in range(0, len(ids), 15) if len(ids) - i >= 4]
    assert sorted(kept) == sorted(expected)
    assert corpus.dropped_tokens == sum(map(len, tokenised)) - sum(map(len, kept))


def test_no_document_shorter_than_a_window_is_on_both_sides(model, short_pages):
    corpus = read_corpus(model, short_pages[0], length=64, options=SHORT)
    sides = [{tuple(row[real].tolist()) for row, real in zip(*part, strict=True)} for part in parts(corpus)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 60
    assert 35 <= len(sides[0]) <= 45  # two thirds


def test_padding_is_on_the_right_and_counted(model, short_pages):
    corpus = read_corpus(model, short_pages[0], length=16, options=SHORT)
    padded = 0
    for _, real in parts(corpus):
        assert not real[:, 0].any()  # BOS
        assert (real[:, 1:].int().diff(dim=1) <= 0).all()  # once it is over, it is over
        padded += int((~real[:, 1:]).sum())
    assert padded > 0
    excluded = corpus.to_json()["excluded_positions"]
    assert excluded == {"bos": len(corpus.search) + len(corpus.held_out), "padding": padded, "other special tokens": 0}


def test_packed_short_documents_are_joined_and_their_separators_never_intervened_on(model, short_pages):
    path, documents = short_pages
    corpus = read_corpus(model, path, length=32)
    between = [(tokens[:, 1:] == model.bos) for tokens, _ in parts(corpus)]
    assert (
        sum(int(mask.sum()) for mask in between) == corpus.to_json()["excluded_positions"]["other special tokens"] > 10
    )
    for mask, (_, real) in zip(between, parts(corpus), strict=True):
        assert real[:, 1:].equal(~mask)
    ids = [
        token for tokens, mask in parts(corpus) for row, real in zip(tokens, mask, strict=True) for token in row[real]
    ]
    total = sum(len(model.tokenizer(one)["input_ids"]) for one in documents)
    assert total - corpus.dropped_tokens <= len(ids) + int(sum(mask.sum() for mask in between)) <= total + 60


def test_a_held_out_window_that_repeats_one_for_search_is_dropped(model, tmp_path):
    page = " ".join(pages(6, 60))
    path = tmp_path / "twice.txt"
    path.write_text("\f".join([page, *pages(40, 60, seed=9), page]))
    ids = model.tokenizer(page)["input_ids"]
    corpus = read_corpus(model, path, length=16)
    search, held_out = ({tuple(row) for row in tokens.tolist()} for tokens, _ in parts(corpus))
    assert not search & held_out
    assert len(ids) > 15 * 10


def test_special_tokens_that_stand_in_the_text_are_not_of_it(model, tmp_path):
    path = tmp_path / "special.txt"
    path.write_text("<|endoftext|>".join(pages(60, 30)))
    corpus = read_corpus(model, path, length=16)
    for tokens, real in parts(corpus):
        assert real.equal(tokens != model.bos)
    assert corpus.to_json()["excluded_positions"]["other special tokens"] > 0


# --- Tokenizers and models that do not fit ---------------------------------------------------------------------


class Odd:
    """A tokenizer for whole words, which knows none but a few."""

    bos_token_id = eos_token_id = pad_token_id = unk_token_id = None

    def __init__(self, last=1):
        self.last = last

    def __call__(self, text, **_options):
        if "fox" in text:
            raise Exception("WordLevel error: Missing [UNK] token from the vocabulary")
        return {"input_ids": [self.last for _ in text.split()]}


def test_text_that_the_tokenizer_cannot_read_is_refused(model, tiny_text):
    odd = dataclasses.replace(model, tokenizer=Odd())
    with pytest.raises(InputError, match=r"Missing \[UNK\].*of the kind that the model was trained on"):
        read_corpus(odd, tiny_text, length=16)


@pytest.fixture(scope="module")
def by_character():
    """A real tokenizer of single characters that has no token for what it does not know."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    letters = sorted(set(" \n.abcdefghijklmnopqrstuvwxyz"))
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({letter: i for i, letter in enumerate(letters)}))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def test_a_few_characters_without_a_token_are_left_out_and_counted(model, by_character, tmp_path):
    odd = dataclasses.replace(model, tokenizer=by_character)
    plain = "\n".join(pages(60, 60))
    said = {"plain.txt": plain, "accents.txt": plain.replace("quick", "quéick", 5) + "éé"}
    read = {}
    for name, text in said.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        read[name] = read_corpus(odd, tmp_path / name, length=16).to_json()
    assert [one["unreadable_characters"] for one in read.values()] == [0, 7]
    assert read["plain.txt"]["windows_sha256"] == read["accents.txt"]["windows_sha256"]


@pytest.mark.parametrize(("words", "length"), [(6, 48), (50, 48)])
def test_what_separates_documents_is_not_counted_against_the_text(model, tmp_path, words, length):
    """A tokenizer of letters without a token for a new line, by which documents are joined."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({c: i for i, c in enumerate(" abcdefghijklmnopqrstuvwxyz")})
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    odd = dataclasses.replace(model, tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=made))
    path = as_lines(tmp_path / "short.jsonl", [{"text": page} for page in pages(400, words)])
    told = read_corpus(odd, path, length=length).to_json()
    assert told["unreadable_characters"] == 0


@pytest.mark.parametrize("length", [8, 12])
def test_documents_of_a_few_tokens_are_told_to_be_short_not_that_a_length_is_wrong(model, tmp_path, length):
    path = as_lines(tmp_path / "tiny.jsonl", [{"text": "fox"} for _ in range(100)])
    subject = Subject(model=model.name, text=path, packing="documents")
    with pytest.raises(InputError, match="text for at least"):
        read_subject(model, subject, length=length, pad=False)


@pytest.mark.parametrize("lines", [0, 3, 900])
@pytest.mark.parametrize(("character", "shown"), [("é", "'é'"), ("\u2028", r"'\\u2028'")])
def test_a_character_that_the_tokenizer_has_no_token_for_is_told_with_its_place(
    model, by_character, tmp_path, lines, character, shown
):
    path = tmp_path / "accents.txt"
    first = "the quick brown fox.\n" * 40
    second = "seven wise owls.\n" * lines + f"caf{character}s and {character}.\n"
    rest = f"nothing {character}\n" * (500 + lines)  # far too many to be left out
    path.write_text(first + "\f" + second + rest, encoding="utf-8")
    with pytest.raises(InputError, match=rf"the character {shown} in line {lines + 1}, column 4 of document 2,"):
        read_corpus(dataclasses.replace(model, tokenizer=by_character), path, length=16)


def test_a_tokenizer_that_makes_no_tokens_of_a_text_is_refused_and_not_the_text(model, tiny_text):
    class Mute(Odd):
        def __call__(self, text, **_options):
            return {"input_ids": []}

    with pytest.raises(InputError, match=r"a tokenizer of .* that makes tokens of text, got none from tiny\.txt"):
        read_corpus(dataclasses.replace(model, tokenizer=Mute()), tiny_text, length=16)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(model, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("dog " * 1000)
    with pytest.raises(InputError, match="numbers below 300, got token number 300"):
        read_corpus(dataclasses.replace(model, tokenizer=Odd(300)), path, length=16)


def test_a_bos_token_that_the_model_does_not_know_opens_nothing(model, tmp_path, tiny_text):
    odd = copy.copy(model.tokenizer)
    without = dataclasses.replace(model, tokenizer=BeyondVocabulary(odd))
    assert without.bos is None
    corpus = read_corpus(without, tiny_text, length=16)
    assert corpus.first_position == 0
    assert corpus.search_real.all()


class BeyondVocabulary:
    """The tokenizer, with a BOS token added that the model was never given a row for."""

    bos_token_id, eos_token_id, pad_token_id, unk_token_id = 300, 300, 300, None

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, *arguments, **options):
        return self._tokenizer(*arguments, **options)


# --- Where one intervenes --------------------------------------------------------------------------------------


def readout_of(model, corpus, part="search", **options):
    return LanguageModelReadout(
        model, getattr(corpus, part), layer=0, target=2, first_position=corpus.first_position,
        allowed=corpus.allowed(part), **options,
    )  # fmt: skip


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_padding_is_never_intervened_on_and_never_measured(model, short_pages, offset):
    corpus = read_corpus(model, short_pages[0], length=16, options=SHORT)
    readout = readout_of(model, corpus, offset=offset)
    rows, positions = readout.draw(40_000, torch.Generator().manual_seed(0))
    real = corpus.search_real
    assert real[rows, positions].all()
    assert real[rows, positions + offset].all()
    drawn = set(zip(rows.tolist(), positions.tolist(), strict=True))
    possible = {
        (row, position)
        for row in range(len(real))
        for position in range(16 - offset)
        if real[row, position] and real[row, position + offset]
    }
    assert drawn == possible  # all of them, the last one before the padding too


def test_every_eligible_position_of_a_window_is_as_likely_as_any_other(model, short_pages):
    corpus = read_corpus(model, short_pages[0], length=16, options=SHORT)
    readout = readout_of(model, corpus, offset=1)
    rows, positions = readout.draw(60_000, torch.Generator().manual_seed(0))
    row = int(rows[0])
    eligible = int(corpus.search_real[row].sum()) - 1
    seen = torch.bincount(positions[rows == row])[1:].double()
    assert len(seen) == eligible
    expected = float(seen.sum()) / eligible
    assert float(((seen - expected) ** 2 / expected).sum()) < 4 * eligible + 20  # chi-squared, far in its tail


def test_what_is_read_before_padding_is_what_the_document_alone_gives(model, short_pages):
    corpus = read_corpus(model, short_pages[0], length=16, options=SHORT)
    readout = readout_of(model, corpus, offset=1)
    short = int(corpus.search_real.sum(1).argmin())
    length = 1 + int(corpus.search_real[short].sum())
    assert length < 16
    alone = LanguageModelReadout(
        model, corpus.search[short : short + 1, :length], layer=0, target=2, offset=1, first_position=1
    )
    positions = torch.tensor([length - 2])
    x = torch.randn(3, 1, model.width, generator=torch.Generator().manual_seed(2))
    ours, theirs = (one.read(one.at(torch.tensor([row]), positions), x) for one, row in ((readout, short), (alone, 0)))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_positions_with_an_outlying_norm_are_neither_drawn_nor_counted(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16, options=TextOptions(outlier_norms=1.2))
    readout = readout_of(model, corpus, offset=1)
    norms = readout.residuals.norm(dim=-1)
    limit = 1.2 * norms[:, 1:].median()
    outlying = norms > limit
    outlying[:, 0] = False
    assert 0 < int(outlying.sum()) == readout.positions.outliers < 0.5 * outlying.numel()
    assert not (readout.counted & outlying).any()
    rows, positions = readout.draw(2000, torch.Generator().manual_seed(1))
    assert (norms[rows, positions] <= limit).all()


def test_outliers_are_counted_in_the_description_of_a_site(tiny_model_folder, tiny_text):
    subject = Subject(model=str(tiny_model_folder), text=tiny_text, outlier_norms=1.2, packing="documents")
    site = open_site(subject, SiteOptions(layer=0, target=1, offset=1, context=16))
    counted = site.description["outlier_norms"]
    assert counted["times_the_median"] == 1.2
    for part in ("search", "held_out"):
        readout = getattr(site, part)
        assert counted[part] == {
            "outliers": readout.positions.outliers,
            "of_positions": readout.positions.outliers + int(readout.counted.sum()),
        }
    assert site.description["packing"] == "documents"
    assert json.dumps(site.description)


def test_a_text_with_nowhere_to_intervene_is_refused(model):
    windows = torch.ones(3, 8, dtype=torch.long)
    real = torch.zeros(3, 8, dtype=torch.bool)
    real[:, 1:3] = True
    LanguageModelReadout(model, windows, layer=0, target=1, offset=1, allowed=Allowed(real=real))
    with pytest.raises(InputError, match="two tokens 2 apart"):
        LanguageModelReadout(model, windows, layer=0, target=1, offset=2, allowed=Allowed(real=real))


def test_what_is_shown_and_summed_up_leaves_padding_out(model, short_pages):
    """The same documents in windows of two lengths, so with more and with less padding: the same figures."""
    figures = []
    direction = torch.nn.functional.normalize(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    for length in (59, 64):
        corpus = read_corpus(model, short_pages[0], length=length, options=SHORT)
        readout = readout_of(model, corpus, "held_out", offset=0)
        group = CardGroup(name="some", directions=direction, plus=torch.ones(2), minus=torch.ones(2))
        cards = gallery(model, readout, [group], random_mean=1.0).cards
        rho = presences(readout, direction)
        interval = median_share_interval(rho, 0.2, torch.Generator().manual_seed(0), readout.counted_inside)
        scaling = measure_scaling(model, corpus.held_out, corpus.held_out_real)
        figures.append(
            (
                [card.presence_share for card in cards],
                [sum(card.presences.counts) for card in cards],
                [excerpt.presence for card in cards for excerpt in card.excerpts],
                [interval.value, interval.low, interval.high],
                [row.residual for row in scaling],
            )
        )
        assert figures[-1][1] == [int(corpus.held_out_real.sum())] * 2
    for one, other in zip(*figures, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_without_padding_documents_are_read_in_windows_short_enough_to_keep_half_of_them(
    model, tiny_model_folder, short_pages, tmp_path
):
    path, documents = short_pages
    subject = Subject(model=str(tiny_model_folder), text=path, packing="documents")
    corpus = corpus_of_run(Run(seed=0, directory=tmp_path, subject=subject))
    lengths = {length: sum(len(model.tokenizer(one)["input_ids"]) // (length - 1) for one in documents) * (length - 1)
               for length in (64, 32, 16)}  # fmt: skip
    total = corpus.read_tokens
    assert total == sum(len(model.tokenizer(one)["input_ids"]) for one in documents)
    assert lengths[64] < lengths[32] < total / 2 < lengths[16]
    assert corpus.search.shape[1] == 16
    assert total - corpus.dropped_tokens == lengths[16]
    for _, real in parts(corpus):
        assert real[:, 1:].all()
