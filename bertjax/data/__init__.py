"""Text in, batches out, one folder a stage:

    read/          sources to frames
    validate/      frames checked against a data contract
    rows/          cells to texts and labels, preprocessed
    task_formats/  how each task parses and encodes rows
    encode/        texts to ragged examples of token ids
    split/         train, validation and test rows
    streaming/     the same splits for tables that do not fit in memory
    batching/      examples to packed batches in a few shapes

`Table` has the settings of all stages.
"""
