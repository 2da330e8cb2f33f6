"""What may be published: verdicts on texts and pictures. Pure values in, verdicts out."""
