"""MANY BODIES IN FEW FILES: tar shards, and what became of every URL beside them in Parquet (extra ``dataset``)."""

from .strategy import TarShards

__all__ = ["TarShards"]
