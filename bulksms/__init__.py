"""The campaign domain: contacts, the order of statuses, batches, delivery reports and the outbox of charges."""
