"""Generating: captions of a dataset to videos, by the model that was trained on it.

Prompts come from a published dataset or a curation (`prompts`), videos from a SkyReels-V2 pipeline
(`pipelines`) or an HTTP endpoint (`endpoint`), and each has its row in a ledger (`ledger`), from
which the loop scores what came out.
"""
