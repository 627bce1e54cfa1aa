"""`/graphql`, of the extra `guardwire[graphql]`: imported only where GUARDWIRE_GRAPHQL is on."""
