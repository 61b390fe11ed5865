-- Refuses, at the end of the transaction, a change of an account's credits that is not told by the ledger's next entry.
CREATE OR REPLACE FUNCTION trellis_verify_credit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.credit_sequence <> OLD.credit_sequence + 1 OR NOT EXISTS (
    SELECT FROM credit_transactions
    WHERE owner_id = NEW.id AND sequence = NEW.credit_sequence AND balance_after = NEW.credit_balance AND held_after = NEW.credits_held
      AND amount = NEW.credit_balance - OLD.credit_balance AND held = NEW.credits_held - OLD.credits_held
  ) THEN
    RAISE EXCEPTION 'the credits of account % change from % (% held) to % (% held) without an entry % of the ledger that says so',
      NEW.id, OLD.credit_balance, OLD.credits_held, NEW.credit_balance, NEW.credits_held, OLD.credit_sequence + 1 USING ERRCODE = 'TR003';
  END IF;
  RETURN NULL;
END $$;
