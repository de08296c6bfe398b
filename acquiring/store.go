package acquiring

import "koala/internal/db"

// Schema is what this package keeps. Rows of things handed over are only added;
// what changes in them is whether they are booked yet.
var Schema = db.Schema{Owner: "acquiring", Steps: []string{
	`CREATE TABLE acquiring_firm (
		id TEXT PRIMARY KEY,
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		issuer TEXT NOT NULL UNIQUE,   -- name on discount cards, hexadecimal
		made BIGINT NOT NULL);
	CREATE TABLE acquiring_site (
		id TEXT PRIMARY KEY,
		number BIGINT NOT NULL UNIQUE, -- name on door credentials
		owner TEXT NOT NULL,
		firm TEXT NOT NULL,
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		keep_days BIGINT NOT NULL,
		made BIGINT NOT NULL);
	CREATE TABLE acquiring_shop (
		id TEXT PRIMARY KEY,
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		mcc TEXT NOT NULL,
		city TEXT NOT NULL,
		site TEXT NOT NULL,
		made BIGINT NOT NULL);
	CREATE TABLE acquiring_device (
		tid TEXT PRIMARY KEY,
		kind TEXT NOT NULL,
		mid TEXT NOT NULL,
		shop TEXT NOT NULL,
		site TEXT NOT NULL,
		place_en TEXT NOT NULL,
		place_zh TEXT NOT NULL,
		state TEXT NOT NULL,
		seen BIGINT NOT NULL,
		high BIGINT NOT NULL);         -- highest number of its row
	CREATE INDEX acquiring_device_shop ON acquiring_device (shop, tid);
	CREATE TABLE acquiring_gap (
		tid TEXT NOT NULL,
		low BIGINT NOT NULL,           -- inclusive, as high
		high BIGINT NOT NULL,
		opened BIGINT NOT NULL,
		PRIMARY KEY (tid, low))`,
	// Records of bank cards. hash is the hsm's over the wire form, sealed the
	// wire form, which holds the card's number.
	`CREATE TABLE acquiring_record (
		id TEXT PRIMARY KEY,
		tid TEXT NOT NULL,
		number BIGINT NOT NULL,
		shop TEXT NOT NULL,
		hash TEXT NOT NULL,
		kind BIGINT NOT NULL,          -- pboc.ClearingKind
		type BIGINT NOT NULL,          -- 9C
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		batch BIGINT NOT NULL,
		stan BIGINT NOT NULL,
		done BIGINT NOT NULL,          -- by the till's clock
		got BIGINT NOT NULL,
		fate TEXT NOT NULL,
		why TEXT NOT NULL,
		waits TEXT NOT NULL,           -- id of the record in the bank's suspense
		sealed BYTEA NOT NULL,
		UNIQUE (tid, number));
	CREATE INDEX acquiring_record_card ON acquiring_record (card, id);
	CREATE INDEX acquiring_record_shop ON acquiring_record (shop, id);
	CREATE INDEX acquiring_record_fate ON acquiring_record (fate, id);
	-- What is not taken: another body under a used name, a wrong proof.
	CREATE TABLE acquiring_odd (
		id TEXT PRIMARY KEY,
		tid TEXT NOT NULL,
		number BIGINT NOT NULL,
		what TEXT NOT NULL,            -- sale, meal, redemption, passage
		why TEXT NOT NULL,
		hash TEXT NOT NULL,
		sealed BYTEA NOT NULL,
		got BIGINT NOT NULL,
		UNIQUE (tid, number, hash));
	-- What the bank's clearing moved to shops (below zero: back), by its entries.
	CREATE TABLE acquiring_movement (
		ref TEXT PRIMARY KEY,
		shop TEXT NOT NULL,
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL);
	CREATE INDEX acquiring_movement_card ON acquiring_movement (card, atc, ref);
	CREATE TABLE acquiring_auth (
		tid TEXT NOT NULL,
		day TEXT NOT NULL,             -- Beijing
		stan BIGINT NOT NULL,
		id TEXT NOT NULL UNIQUE,
		hash TEXT NOT NULL,
		shop TEXT NOT NULL,
		card TEXT NOT NULL,
		fen BIGINT NOT NULL,
		arc TEXT NOT NULL,
		why TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (tid, day, stan));
	CREATE INDEX acquiring_auth_card ON acquiring_auth (card, id)`,
	`CREATE TABLE acquiring_meal (
		till TEXT NOT NULL,
		seq BIGINT NOT NULL,           -- the till's number of the sale
		id TEXT NOT NULL UNIQUE,
		number BIGINT NOT NULL,        -- its place in the till's store
		shop TEXT NOT NULL,
		uid TEXT NOT NULL,
		card TEXT NOT NULL,
		kind BIGINT NOT NULL,          -- desfire.SaleKind
		meal BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		subsidy BIGINT NOT NULL,       -- of a refund what of it goes back
		of BIGINT NOT NULL,
		at BIGINT NOT NULL,            -- by the till's clock
		got BIGINT NOT NULL,
		body BYTEA NOT NULL,
		card_done BOOLEAN NOT NULL,
		firm_done BOOLEAN NOT NULL,
		why TEXT NOT NULL,
		PRIMARY KEY (till, seq));
	CREATE INDEX acquiring_meal_card ON acquiring_meal (card, id);
	CREATE INDEX acquiring_meal_shop ON acquiring_meal (shop, id);
	CREATE INDEX acquiring_meal_why ON acquiring_meal (why, id);
	CREATE TABLE acquiring_redemption (
		holder TEXT NOT NULL,
		coupon TEXT NOT NULL,
		counter BIGINT NOT NULL,
		id TEXT NOT NULL UNIQUE,
		tid TEXT NOT NULL,
		number BIGINT NOT NULL,
		shop TEXT NOT NULL,
		firm TEXT NOT NULL,            -- empty: nobody here
		op BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		reduction BIGINT NOT NULL,
		at BIGINT NOT NULL,
		got BIGINT NOT NULL,
		body BYTEA NOT NULL,
		done BOOLEAN NOT NULL,
		why TEXT NOT NULL,
		PRIMARY KEY (holder, coupon, counter));
	CREATE INDEX acquiring_redemption_coupon ON acquiring_redemption (coupon, id);
	CREATE INDEX acquiring_redemption_shop ON acquiring_redemption (shop, id);
	CREATE INDEX acquiring_redemption_why ON acquiring_redemption (why, id);
	CREATE TABLE acquiring_passage (
		id TEXT PRIMARY KEY,
		tid TEXT NOT NULL,
		number BIGINT NOT NULL,
		site TEXT NOT NULL,
		uid TEXT NOT NULL,
		card TEXT NOT NULL,            -- empty: not known
		person TEXT NOT NULL,          -- as the credential says, hexadecimal
		at BIGINT NOT NULL,
		opened BOOLEAN NOT NULL,
		reason BIGINT NOT NULL,        -- the door's
		got BIGINT NOT NULL,
		UNIQUE (tid, number));
	CREATE INDEX acquiring_passage_site ON acquiring_passage (site, id);
	CREATE INDEX acquiring_passage_card ON acquiring_passage (card, id);
	CREATE INDEX acquiring_passage_got ON acquiring_passage (site, got)`,
	// What devices are told beside the bank's exception list.
	`CREATE TABLE acquiring_menu (
		shop TEXT PRIMARY KEY,
		body BYTEA NOT NULL,           -- desfire.Menu without version and cards
		changed BIGINT NOT NULL);
	CREATE TABLE acquiring_plan (
		site TEXT PRIMARY KEY,
		body BYTEA NOT NULL,           -- desfire.Plan without version, persons and cards
		changed BIGINT NOT NULL);
	CREATE TABLE acquiring_grant (
		site TEXT NOT NULL,
		card TEXT NOT NULL,
		zone BIGINT NOT NULL,
		schedule BIGINT NOT NULL,
		PRIMARY KEY (site, card, zone, schedule));
	CREATE TABLE acquiring_pack (
		kind TEXT NOT NULL,            -- menu, plan
		owner TEXT NOT NULL,           -- shop or site
		version BIGINT NOT NULL,
		made BIGINT NOT NULL,
		hash TEXT NOT NULL,            -- of its content but for version and time
		body BYTEA NOT NULL,
		PRIMARY KEY (kind, owner, version))`,
	// Sales whose end a canteen's till does not know.
	`CREATE TABLE acquiring_meal_doubt (
		till TEXT NOT NULL,
		seq BIGINT NOT NULL,
		id TEXT NOT NULL UNIQUE,
		shop TEXT NOT NULL,
		uid TEXT NOT NULL,
		card TEXT NOT NULL,
		body BYTEA NOT NULL,           -- desfire.Sale without its MAC
		at BIGINT NOT NULL,            -- by the till's clock
		got BIGINT NOT NULL,
		state TEXT NOT NULL,
		evidence TEXT NOT NULL,        -- issuing.Evidence
		ended BIGINT NOT NULL,         -- 0: not yet
		PRIMARY KEY (till, seq));
	CREATE INDEX acquiring_meal_doubt_state ON acquiring_meal_doubt (state, id);
	CREATE INDEX acquiring_meal_uid ON acquiring_meal (uid, at)`,
	// Transport keys of devices that wait for their installation. Devices
	// registered before have none: staff make one for the installer.
	`CREATE TABLE acquiring_transport (
		tid TEXT PRIMARY KEY,
		sealed BYTEA NOT NULL,         -- by the hsm
		made BIGINT NOT NULL)`,
}}
