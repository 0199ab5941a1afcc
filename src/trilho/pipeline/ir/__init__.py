"""A KFP v2 PipelineSpec: read, held against what it may say, its expressions and placeholders resolved."""
