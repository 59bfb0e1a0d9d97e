"""The handlers of salesapi, a module for each subject; `operations` says which path each answers."""
