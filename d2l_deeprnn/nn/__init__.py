"""Models: the chapter's, the layers it takes, and networks written from scratch."""
