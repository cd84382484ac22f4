"""Languages: what is asked of which recogniser, what is detected, and what the table and the record keep."""

import numpy as np
import pytest

from pase_msa import PaSEError
from pase_msa.media import languages, pipeline
from pase_msa.media.clip import Word
from pase_msa.media.config import ExtractConfig
from pase_msa.media.pipeline import Extractor
from pase_msa.media.record import trained_languages
from pase_msa.media.table import extract_table

TOY = {"loudness": {"extractor": "tests.media.toy:Plugin"}}


def config(language, **options):
    return ExtractConfig(["loudness"], TOY, align="window", language=language, **options)


@pytest.fixture
def multilingual(monkeypatch):
    """The multilingual recogniser, as if it were installed: every sound is German; gives what was asked of it."""
    asked = []

    def recognise(sound, speech, model, language):
        asked.append((model, language))
        return [Word("ja", speech[0].start, speech[0].end)]

    monkeypatch.setattr(languages, "installed", lambda package: True)
    monkeypatch.setattr(pipeline, "detect_language", lambda sound, speech: ("de", 0.9) if speech else None)
    monkeypatch.setattr(pipeline, "recognise", recognise)
    return asked


def test_the_recogniser_follows_from_the_language(multilingual):
    assert config("en").recogniser == "tiny.en"
    assert config("de").recogniser == config("auto").recogniser == "multilingual"
    assert config("de", recogniser="/a/folder").recogniser == "/a/folder"


@pytest.mark.parametrize(
    ("language", "what"), [("de", "To recognise German needs"), ("auto", "To detect a language needs")]
)
def test_the_command_that_brings_the_recogniser_is_named(monkeypatch, language, what):
    monkeypatch.setattr(languages, "installed", lambda package: False)
    with pytest.raises(PaSEError, match=f"{what} the multilingual recogniser.*`make media LANGUAGES=all`"):
        config(language)


def test_the_language_is_given_or_detected(multilingual, media):
    extractor = Extractor(config("auto"))
    assert extractor.extract_clip(media / "sound.wav").language == "de"
    assert extractor.extract_clip(media / "sound.wav", language="fr").language == "fr"
    assert extractor.extract_clip(None, "Only a text.").language is None
    assert Extractor(config("en")).extract_clip(media / "sound.wav").language == "en"
    assert multilingual == [("multilingual", "de"), ("multilingual", "fr"), ("tiny.en", "en")]


def test_a_text_in_another_language_is_spread_over_the_speech(multilingual, media):
    clip = Extractor(config("de")).extract_clip(media / "sound.wav", "Die Geschichte war sehr schön.")
    assert clip.timing == "spread"
    assert clip.notes == ["The text is not in the aligner's English, so its words were spread over the speech."]


def test_the_table_records_the_languages(multilingual, media, tmp_path):
    (tmp_path / "clips.csv").write_text(
        f"path,id,language\n{media / 'sound.wav'},a,de\n{media / 'sound.wav'},b,en\n{media / 'sound.wav'},c,French\n"
    )
    table, _ = extract_table(tmp_path / "clips.csv", tmp_path / "out", config("de"), jobs=1)
    assert multilingual == [("multilingual", "de"), ("multilingual", "en"), ("multilingual", "fr")]
    assert table.meta["extraction"]["languages"] == {"de": 1, "en": 1, "fr": 1}
    assert trained_languages(table.meta["extraction"]) == ["de", "en", "fr"]
    assert table.labels("language") == ["de", "en", "French"]  # for `pase evaluate --by language`


def test_a_record_without_languages_has_the_declared_one(multilingual):
    assert trained_languages(Extractor(config("en")).record) == ["en"]
    assert trained_languages(Extractor(config("auto")).record) == []


def test_the_parts_of_the_network_are_joined(monkeypatch, tmp_path):
    for weights in languages.FILES:
        (tmp_path / weights.file.replace("/", "_")).write_bytes(f"{weights.file};".encode())
    monkeypatch.setattr(languages, "installed", lambda package: True)
    monkeypatch.setattr(languages.Weights, "path", lambda weights: tmp_path / weights.file.replace("/", "_"))
    files = languages.multilingual_files()
    assert set(files) == {"model.bin", "config.json", "tokenizer.json", "vocabulary.json"}
    assert files["model.bin"] == b"data/model.bin.part1;data/model.bin.part2;"


def test_a_multilingual_language_model_is_taken_by_its_folder(tmp_path):
    """A small XLM-R, as a user has it in a folder."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "schön", "Schule"])}
    model = tokenizers.models.WordLevel(words, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    made = transformers.XLMRobertaConfig(vocab_size=len(words), max_position_embeddings=40, pad_token_id=1, **sizes)
    transformers.XLMRobertaModel(made).save_pretrained(tmp_path)
    clip = Extractor(ExtractConfig(["text"], {"text": {"model": str(tmp_path)}})).extract_clip(
        None, "Die Schule ist schön"
    )
    assert clip.features["text"].shape == (4, 8)
    assert np.isfinite(clip.features["text"]).all()
