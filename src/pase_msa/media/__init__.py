"""Raw media become feature tables: one extractor a file, one pipeline (`pase_msa.media.pipeline.Extractor`)."""
