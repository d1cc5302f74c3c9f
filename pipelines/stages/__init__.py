"""The stages of a run, each by what it does; `pipelines.job` puts them in order."""
