"""Reading and writing of pictures, clips and latents files as arrays, with their colours, sizes and times.

`colours` holds colour profiles and colour spaces, `pictures` holds still pictures, and `clips` holds video and other
clips. Nothing here knows an autoencoder: encoding or decoding a whole file belongs to `files`.
"""
