"""`latentrt bench`: how fast a bundle runs, every case in a process of its own."""
