"""Prediction over files of any size: rows are read in chunks, answered by an engine, and written in parts.

row_source      the rows of the files, surveyed once, then in chunks that belong to parts
row_answers     a chunk of rows -> their answers
ray_pool        the same in a pool of Ray actors
part_formats    answered rows as csv, tsv, json lines or parquet
part_manifest   which parts are finished, and what they were made from
output_place    a file or a folder of parts, and what stands there already
predict_files   the whole of it
"""
