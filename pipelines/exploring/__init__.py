"""What images without labels show: what it is asked for, the job, and what it found."""
