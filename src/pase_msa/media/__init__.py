"""Raw media become feature tables.

Plug-ins, one extractor per file, which `pase_msa.plugins` finds by the function `build`:

- `text`: states of a frozen language model, per word.
- `audio`: log-mel bands, cepstra, pitch and energy, per frame.
- `whisper`: states of a speech recogniser's encoder, per frame.
- `egemaps`: the descriptors of eGeMAPS, per frame.
- `vision`: face geometry and expression, per frame; it uses `face`, `faces`, `geometry` and `expression`.

All else is shared by them:

- `base` has the contract of an extractor, `clip` the containers, `config` the options.
- `decode`, `speech`, `words` and `align` make sound and pictures, stretches of speech, words with times, and steps.
- `recordings` divides a recording by who speaks: by its channels, or by `voices` that `speakers` clusters. `languages`
  has the recogniser for all languages.
- `pipeline` reads one clip, `table` many: which ones is up to `manifest`, `running` starts processes for them, finished
  ones are kept by `parts`, and `outcomes` reports what became of each.
- `sharded` writes a table in parts while clips are extracted, in a `place` here or elsewhere.
- `timelines` reads segments, speakers and transcripts that people have annotated, and writes files of their kind.
- `record` writes down how features were made, `weights` finds and checks the files of networks.
- `example_clip` makes clips for examples and tests.
"""
