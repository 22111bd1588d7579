"""The verbs of corectl as methods: what :class:`cored.client.Client` is made of."""
