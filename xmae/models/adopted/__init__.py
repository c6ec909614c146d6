"""Encoders of others as teachers: published architectures, one file each, and files that compute
by themselves.
"""
