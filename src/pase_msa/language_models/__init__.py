"""Language models as predictors: a prompt asks for the label of an utterance (Table 5 of He et al., "PaSE")."""

from pase_msa.optional import need

need("requests")
