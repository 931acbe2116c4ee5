"""The operations behind a tensor's operators and array methods: + * @ [] sum reshape exp and their kin.

`elementwise` acts on single elements, `reductions` fold axes away, `shaping` moves elements without changing them,
`matmul` multiplies matrices. They are Functions like those in `minidl.ops` and stand in the same table.
"""
