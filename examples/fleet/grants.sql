-- What a gate needs of its keystore, and no more: it changes no table, and what is
-- written in the audit trail it cannot take back. Run it as the owner of the schema,
-- after "hivegate migrate", with the role and the schema as variables:
--
--   psql "$OWNER_DSN" -v gate=gate -v schema=hivegate -f grants.sql
GRANT USAGE ON SCHEMA :"schema" TO :"gate";
SET search_path = :"schema";
GRANT SELECT ON hivegate_schema, keys, secrets, counter, meta, docs, audit, audit_head, scope_uses TO :"gate";
GRANT INSERT, UPDATE ON keys, meta, scope_uses TO :"gate";
GRANT INSERT, UPDATE, DELETE ON secrets, docs TO :"gate";
GRANT UPDATE ON counter, audit_head TO :"gate";
GRANT INSERT ON audit TO :"gate";
