"""Held-out evidence: what each modality contributes on data that no training step has seen, and what follows from it.

In the order in which they use each other:

- `pooling`, `features`, `ridge`: ridge regressions of every coalition of modalities, solved in closed form;
- `contributions`, `verdict`: what a modality contributes in sample, on folds and on validation, and its verdict;
- `weights`: weights of coalitions, computed here only; `temperature` calibrates what they are fitted on;
- `reference`: the closed-form model that a trained model keeps; `mixture`: what predictions are made of;
- `diagnosis`, `diagnose`, `table`: the diagnosis of a data set, from features, from a table, and as text;
- `stored`: diagnoses that are kept for later runs;
- `validation`: predictions of every coalition after an epoch; `modality_report`: what became of every modality.
"""
