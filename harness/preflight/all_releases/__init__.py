"""Every published release: with which of them would this training work?"""
