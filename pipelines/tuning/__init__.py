"""Fine-tuning on equal terms with the frozen run: what it is asked for, the job, a classifier."""
