"""What a person looks at: the one-page picture, and Evidently's report from a process of its own."""
