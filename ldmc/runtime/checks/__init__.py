"""What of a bundle is checked before any of it is used: a bundle may come from a stranger, or be damaged.

    strict_json      the manifest's text: a regular file of bounded size and depth, no key twice, no NaN
    kinds, schema    its values: kinds, ranges, how many of each
    paths            a path of the manifest lies inside the bundle, symbolic links included
    external_data    so do the weights that an ONNX graph names
    inventory        every file that is read is listed with size and SHA-256; files that are not listed
    hash_record      SHA-256 that were checked before, kept outside the bundle
    trust            whether native code and scripts of the bundle may be loaded
    cache_folder     where the last two are kept
    opening          all of these, in order, as `load` needs them
"""
