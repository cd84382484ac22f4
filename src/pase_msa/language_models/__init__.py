"""Language models as predictors: they are asked for the label of an utterance (Table 5 of He et al., "PaSE")."""
