"""Report: what happened in the run of a journal, on one page (extra ``report``)."""
