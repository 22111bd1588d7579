"""CNI as a runtime does it: configurations, results, chains of plugins, and what is kept of them.

A library for network plugins: :class:`cored.cni.chain.Chain` is a whole
:class:`cored.abc.network.Network` from a *caller* that can run one plugin
(:class:`cored.cni.executables.Executables`, or one in process).
"""
