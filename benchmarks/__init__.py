"""What an exported bundle costs and what it lost: latency, memory, the drift gate and the
report.
"""
