package settlement

import (
	"koala/internal/db"
	"koala/settlement/split"
)

// Schema is what this package keeps. Since step 5 an item is not marked when
// it is settled: each payee's items have rising numbers, and a closing takes
// the range behind the last one's, so that no item can be in two.
var Schema = db.Schema{Owner: "settlement", Steps: []string{
	`CREATE TABLE settlement_capture (
		ref TEXT PRIMARY KEY,
		payee TEXT NOT NULL,
		kind TEXT NOT NULL,
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL,      -- when it was earned, microseconds
		booked BIGINT NOT NULL,  -- when it was captured: the cut-off looks at this
		payout TEXT NOT NULL)`,
	`CREATE INDEX settlement_capture_due ON settlement_capture (payout, payee, booked)`,
	`CREATE TABLE settlement_payout (
		id TEXT PRIMARY KEY,
		day TEXT NOT NULL,       -- 2015-09-16
		payee TEXT NOT NULL,
		n BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL,
		UNIQUE (day, payee))`,
	`CREATE TABLE settlement_day (
		day TEXT PRIMARY KEY,
		hash TEXT NOT NULL,
		csv BYTEA NOT NULL,
		at BIGINT NOT NULL)`,
	newTables + moveOld,
	keyStep,
	monthStep,
	splitStep,
	standingStep,
	answerStep,
}}

// standingStep: of payees nothing is known but their sales.
const standingStep = `CREATE TABLE settlement_standing (payee TEXT PRIMARY KEY, opened TEXT NOT NULL, risk TEXT NOT NULL) /*without rowid*/`

// splitStep: no item there is has a part that another payee's terms price.
const splitStep = split.Tables + `
	ALTER TABLE settlement_item ADD COLUMN priced TEXT NOT NULL DEFAULT ''; -- whose terms price it; empty: the payee's`

// monthStep: whoever there is goes on being paid every day.
const monthStep = `ALTER TABLE settlement_terms ADD COLUMN monthly BOOLEAN NOT NULL DEFAULT FALSE`

// answerStep: nobody has answered for the bank.
const answerStep = `CREATE TABLE settlement_answer (
	payout TEXT NOT NULL, state TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL, at BIGINT NOT NULL,
	PRIMARY KEY (payout, state)) /*without rowid*/`

// newTables: items lie by payee, so that a run reads them in one sweep.
const newTables = `
	CREATE TABLE settlement_item (
		payee TEXT NOT NULL,
		seq BIGINT NOT NULL,       -- rises with the commits
		ref TEXT NOT NULL,
		kind TEXT NOT NULL,
		card TEXT NOT NULL,        -- fee class, empty: no fee
		issuer TEXT NOT NULL,      -- host of a foreign card, empty: our own bank
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL,        -- when it was earned, microseconds
		booked BIGINT NOT NULL,    -- when it was captured: the cut-off looks at this
		sale_at BIGINT NOT NULL,   -- of a refund: when the sale was; 0: at
		remains BIGINT NOT NULL,   -- of a refund: what was left of the sale before it; 0: its own amount
		whole BIGINT NOT NULL,     -- of a share: the whole sale or refund; 0: its own amount
		lo BIGINT NOT NULL,        -- of a share: the fee's part begins here, in fen of whole
		share BIGINT NOT NULL,     -- and is this long; 0: all of it
		PRIMARY KEY (payee, seq)) /*without rowid*/;
	CREATE UNIQUE INDEX settlement_item_ref ON settlement_item (ref);
	CREATE TABLE settlement_payee (
		payee TEXT PRIMARY KEY,
		mark BIGINT NOT NULL,      -- items up to this number are settled
		day TEXT NOT NULL,         -- last day that was closed
		kept BIGINT NOT NULL,      -- settled and not paid, fen; below zero: owed to the house
		reserve BIGINT NOT NULL,   -- held back as reserve
		held BIGINT NOT NULL,      -- sum of holds of an amount
		stopped BIGINT NOT NULL,   -- number of holds of everything
		free BIGINT NOT NULL,      -- payouts at once that are due without a fee
		auto BIGINT NOT NULL,      -- when the next payout at once is made unasked, microseconds; 0: never
		v BIGINT NOT NULL) /*without rowid*/; -- counts the changes
	CREATE INDEX settlement_payee_auto ON settlement_payee (auto) WHERE auto > 0;
	CREATE TABLE settlement_terms (
		payee TEXT NOT NULL, since TEXT NOT NULL, category TEXT NOT NULL, price TEXT NOT NULL,
		cut BIGINT NOT NULL, holidays BOOLEAN NOT NULL, least BIGINT NOT NULL,
		reserve_bp BIGINT NOT NULL, reserve_days BIGINT NOT NULL,
		at_once BOOLEAN NOT NULL, every BIGINT NOT NULL, bp_day BIGINT NOT NULL, most BIGINT NOT NULL, promise BIGINT NOT NULL,
		PRIMARY KEY (payee, since)) /*without rowid*/;
	CREATE INDEX settlement_terms_late ON settlement_terms (cut) WHERE cut > 1680;
	CREATE TABLE settlement_account (
		payee TEXT NOT NULL, at BIGINT NOT NULL, bank TEXT NOT NULL, masked TEXT NOT NULL, sealed BYTEA NOT NULL,
		PRIMARY KEY (payee, at)) /*without rowid*/;
	CREATE TABLE settlement_hold (
		id TEXT PRIMARY KEY, payee TEXT NOT NULL, reason TEXT NOT NULL, fen BIGINT NOT NULL, -- 0: everything
		text TEXT NOT NULL, at BIGINT NOT NULL, ended BIGINT NOT NULL);
	CREATE INDEX settlement_hold_payee ON settlement_hold (payee, ended);
	CREATE TABLE settlement_reserve (
		payee TEXT NOT NULL, due TEXT NOT NULL, payout TEXT NOT NULL, fen BIGINT NOT NULL,
		PRIMARY KEY (payee, due, payout)) /*without rowid*/;
	CREATE TABLE settlement_pass (day TEXT PRIMARY KEY, cut BIGINT NOT NULL); -- payees whose day ends up to this minute are through
	CREATE TABLE settlement_part (day TEXT NOT NULL, no BIGINT NOT NULL, n BIGINT NOT NULL, fen BIGINT NOT NULL, csv BYTEA NOT NULL,
		PRIMARY KEY (day, no));
	CREATE TABLE settlement_express (id TEXT PRIMARY KEY, n BIGINT NOT NULL, fen BIGINT NOT NULL, hash TEXT NOT NULL, csv BYTEA NOT NULL, at BIGINT NOT NULL);
	CREATE TABLE settlement_funding (id BIGINT PRIMARY KEY, fen BIGINT NOT NULL);
	CREATE TABLE settlement_bill (
		payee TEXT NOT NULL, period TEXT NOT NULL, no BIGINT NOT NULL, csv BYTEA NOT NULL, hash BYTEA NOT NULL, prev BYTEA NOT NULL, signature BYTEA NOT NULL, at BIGINT NOT NULL,
		PRIMARY KEY (payee, no), UNIQUE (payee, period));
	ALTER TABLE settlement_payout RENAME TO settlement_payout_old;
	CREATE TABLE settlement_payout (
		id TEXT PRIMARY KEY,
		day TEXT NOT NULL,         -- 2015-09-16
		payee TEXT NOT NULL,
		kind TEXT NOT NULL,        -- t1, d0
		state TEXT NOT NULL,
		n BIGINT NOT NULL,         -- items
		fen BIGINT NOT NULL,       -- paid, never below zero
		at BIGINT NOT NULL,
		after BIGINT NOT NULL,     -- items with numbers above this
		upto BIGINT NOT NULL,      -- and up to this
		gross BIGINT NOT NULL, refunds BIGINT NOT NULL, chargebacks BIGINT NOT NULL, -- the last two at most zero
		fee BIGINT NOT NULL, issuer BIGINT NOT NULL, network BIGINT NOT NULL, acquirer BIGINT NOT NULL,
		reserved BIGINT NOT NULL, released BIGINT NOT NULL,
		advance BIGINT NOT NULL,   -- price of being paid at once
		undone BIGINT NOT NULL,    -- of it given back
		brought BIGINT NOT NULL,   -- kept before
		kept BIGINT NOT NULL,      -- kept after
		arrives TEXT NOT NULL,     -- bank day
		promised BIGINT NOT NULL,  -- d0: by when, microseconds
		answered BIGINT NOT NULL,  -- when the bank answered
		late BIGINT NOT NULL,      -- 1: after the time that was promised
		file TEXT NOT NULL) /*without rowid*/;
	CREATE UNIQUE INDEX settlement_payout_day ON settlement_payout (day, payee) WHERE kind = 't1';
	CREATE INDEX settlement_payout_payee ON settlement_payout (payee, id);
	CREATE INDEX settlement_payout_lent ON settlement_payout (arrives) WHERE kind = 'd0';
	CREATE INDEX settlement_payout_once ON settlement_payout (state, id) WHERE kind = 'd0';`

// moveOld numbers the items there are in the order in which they were settled,
// those that wait last: a payout's items are then a range.
const moveOld = `
	INSERT INTO settlement_item (payee, seq, ref, kind, card, issuer, fen, at, booked, sale_at, remains, whole, lo, share)
		SELECT c.payee, ROW_NUMBER() OVER (ORDER BY COALESCE(p.at, 4611686018427387904), COALESCE(p.id, ''), c.booked, c.ref),
			c.ref, c.kind, '', '', c.fen, c.at, c.booked, 0, 0, 0, 0, 0
		FROM settlement_capture c LEFT JOIN settlement_payout_old p ON p.id = c.payout;
	INSERT INTO settlement_payee (payee, mark, day, kept, reserve, held, stopped, free, auto, v)
		SELECT i.payee, COALESCE(MAX(CASE WHEN p.id IS NOT NULL THEN i.seq END), 0), COALESCE(MAX(p.day), ''), 0, 0, 0, 0, 0, 0, 0
		FROM settlement_item i JOIN settlement_capture c ON c.ref = i.ref LEFT JOIN settlement_payout_old p ON p.id = c.payout
		GROUP BY i.payee;
	INSERT INTO settlement_payout (id, day, payee, kind, state, n, fen, at, after, upto, gross, refunds, chargebacks,
			fee, issuer, network, acquirer, reserved, released, advance, undone, brought, kept, arrives, promised, answered, late, file)
		SELECT p.id, p.day, p.payee, 't1', 'sent', p.n, p.fen, p.at,
			COALESCE(LAG(r.hi) OVER (PARTITION BY p.payee ORDER BY p.at, p.id), 0), r.hi, r.plus, r.minus, 0,
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, p.day, 0, 0, 0, p.day
		FROM settlement_payout_old p JOIN (
			SELECT c.payout AS payout, MAX(i.seq) AS hi, CAST(SUM(CASE WHEN i.fen > 0 THEN i.fen ELSE 0 END) AS BIGINT) AS plus,
				CAST(SUM(CASE WHEN i.fen < 0 THEN i.fen ELSE 0 END) AS BIGINT) AS minus
			FROM settlement_capture c JOIN settlement_item i ON i.ref = c.ref WHERE c.payout <> '' GROUP BY c.payout) r ON r.payout = p.id;
	DROP TABLE settlement_payout_old;
	DROP TABLE settlement_capture;`
