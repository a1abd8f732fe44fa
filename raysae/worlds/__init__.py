"""Systems whose latent state is known at every token. Text: `arithmetic_cot` (its language is in `bookings`),
`controlled_cot`, `dyck`, `bfs_step`, and `brackets`, whose programs `compiled` offers as worlds; `interchange` says
what a pair of texts is, `readings` where a text shows what a reader makes of it. Machines without a model: `stack` and
`traversal`; `states` is what they share, `strata` makes a state an activation.
"""
