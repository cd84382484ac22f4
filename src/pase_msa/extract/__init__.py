"""Raw media become feature tables: one extractor a file, one pipeline (`pase_msa.extract.pipeline.Extractor`)."""
