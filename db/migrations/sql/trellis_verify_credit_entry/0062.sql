-- Refuses, at the end of the transaction, an entry of the ledger that its account has not taken. What it says of the credits is compared with
-- the account's change by `trellis_verify_credit_change`.
CREATE OR REPLACE FUNCTION trellis_verify_credit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM users WHERE id = NEW.owner_id AND credit_sequence >= NEW.sequence) THEN
    RAISE EXCEPTION 'entry % of the ledger of account % has not changed its credits', NEW.sequence, NEW.owner_id USING ERRCODE = 'TR003';
  END IF;
  RETURN NULL;
END $$;
