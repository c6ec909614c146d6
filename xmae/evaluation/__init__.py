"""What an embedding is worth: linear probes with intervals, hand-made baselines, and the heads that
a watch gets.
"""
