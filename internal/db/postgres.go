package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"koala/internal/fail"
)

const (
	oldestPostgres = 15
	connectTimeout = 5 * time.Second
)

// pgEngine is one PostgreSQL database, or one that speaks its protocol.
type pgEngine struct {
	cfg *pgconn.Config
}

func newPostgres(cfg Config) (*pgEngine, error) {
	pg, err := pgconn.ParseConfig(cfg.URL)
	if err != nil { // the message hides the password
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	if pg.ConnectTimeout == 0 {
		pg.ConnectTimeout = connectTimeout
	}
	if pg.RuntimeParams["application_name"] == "" {
		pg.RuntimeParams["application_name"] = "koala"
	}
	if cfg.Rebuildable {
		pg.RuntimeParams["synchronous_commit"] = "off"
	}
	return &pgEngine{cfg: pg}, nil
}

func (e *pgEngine) place() string {
	return fmt.Sprintf("postgres://%s:%d/%s", e.cfg.Host, e.cfg.Port, e.cfg.Database)
}

func (e *pgEngine) tend(conn) {}

func (e *pgEngine) close() error { return nil }

func (e *pgEngine) connect(ctx context.Context, r role) (conn, error) {
	c := &pgConn{eng: e, stmts: map[string]*pgStmt{}, beginSQL: "BEGIN"}
	if r == reading {
		c.beginSQL = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	pg, err := pgconn.ConnectConfig(ctx, e.cfg)
	if err != nil {
		return nil, c.place(err)
	}
	c.pg = pg
	version := pg.ParameterStatus("server_version")
	major, _ := strconv.Atoi(strings.FieldsFunc(version+" ", func(r rune) bool { return r < '0' || r > '9' })[0])
	if major < oldestPostgres && pg.ParameterStatus("crdb_version") == "" {
		c.close()
		return nil, fmt.Errorf("%s is version %s: %w", e.place(), version, ErrVersion)
	}
	return c, nil
}

// pgConn is one connection. Statements given to later wait in batch and go
// out with the next one that needs an answer.
type pgConn struct {
	eng      *pgEngine
	pg       *pgconn.PgConn
	beginSQL string
	stmts    map[string]*pgStmt
	made     int // statements prepared so far, for their names
	batch    *pgconn.Batch
	queued   int
	vals     [][]byte
	forms    []int16
	arena    []byte
}

type pgStmt struct {
	*pgconn.StatementDescription
	params int
}

var binaryResults = []int16{1}

// queue prepares the statement if need be and puts it behind the others.
func (c *pgConn) queue(sql string, args []any) (*pgStmt, error) {
	s := c.stmts[sql]
	if s == nil {
		var err error
		if s, err = c.prepare(sql); err != nil {
			return nil, err
		}
	}
	if err := counted(sql, s.params, len(args)); err != nil {
		return nil, err
	}
	c.vals, c.forms = c.vals[:0], c.forms[:0]
	if need := 8 * len(args); cap(c.arena) < need {
		c.arena = make([]byte, 0, need)
	}
	c.arena = c.arena[:0]
	for i, a := range args {
		if err := c.encode(s.ParamOIDs[i], a); err != nil {
			return nil, fmt.Errorf("argument %d of %.60q: %w", i+1, sql, err)
		}
	}
	if c.batch == nil {
		c.batch = &pgconn.Batch{}
	}
	c.batch.ExecStatement(s.StatementDescription, c.vals, c.forms, binaryResults)
	c.queued++
	return s, nil
}

// prepare first sends what is queued: if the server refuses the text, the
// savepoint to go back to must be there.
func (c *pgConn) prepare(sql string) (*pgStmt, error) {
	if _, err := c.send(background, nil); err != nil {
		return nil, err
	}
	if len(c.stmts) >= maxStatements && c.pg.TxStatus() == 'I' {
		if err := c.script(background, "DEALLOCATE ALL"); err != nil {
			return nil, err
		}
		clear(c.stmts)
	}
	_, params := numbered(sql)
	c.made++
	sd, err := c.pg.Prepare(background, "s"+strconv.Itoa(c.made), sql, nil)
	if err != nil {
		return nil, err
	}
	if len(sd.ParamOIDs) != params {
		return nil, fmt.Errorf("%w: $%d is the highest of %d parameters in %.60q", ErrSQL, params, len(sd.ParamOIDs), sql)
	}
	s := &pgStmt{StatementDescription: sd, params: params}
	c.stmts[sql] = s
	return s, nil
}

// send sends everything queued in one round trip. The answer is the last
// statement's, read as rows of last when that is not nil.
func (c *pgConn) send(ctx context.Context, last *pgStmt) (tag pgconn.CommandTag, err error) {
	tag, _, err = c.sendRows(ctx, last)
	return tag, err
}

func (c *pgConn) sendRows(ctx context.Context, last *pgStmt) (tag pgconn.CommandTag, res *result, err error) {
	n := c.queued
	if n == 0 {
		return tag, nil, nil
	}
	mrr := c.pg.ExecBatch(ctx, c.batch)
	c.batch, c.queued = nil, 0
	for i := range n {
		if !mrr.NextResult() {
			break
		}
		rr := mrr.ResultReader()
		if i == n-1 && last != nil {
			res, err = decodeRows(rr, last.Fields)
		}
		var e error
		if tag, e = rr.Close(); e != nil {
			break
		}
	}
	if e := mrr.Close(); e != nil {
		return tag, nil, e
	}
	return tag, res, err
}

func (c *pgConn) later(sql string, args []any) error {
	_, err := c.queue(sql, args)
	return err
}

func (c *pgConn) exec(sql string, args []any) (int64, error) {
	if _, err := c.queue(sql, args); err != nil {
		return 0, err
	}
	tag, err := c.send(background, nil)
	return tag.RowsAffected(), err
}

func (c *pgConn) query(ctx context.Context, sql string, args []any) (*result, error) {
	s, err := c.queue(sql, args)
	if err != nil {
		return nil, err
	}
	_, res, err := c.sendRows(ctx, s)
	if err == nil && res == nil {
		res = &result{}
	}
	return res, err
}

func (c *pgConn) script(ctx context.Context, sql string) error {
	if _, err := c.send(ctx, nil); err != nil {
		return err
	}
	return c.pg.Exec(ctx, sql).Close()
}

func (c *pgConn) begin() error { return c.later(c.beginSQL, nil) }

func (c *pgConn) commit() error {
	if _, err := c.queue("COMMIT", nil); err != nil {
		return err
	}
	tag, err := c.send(background, nil)
	var pe *pgconn.PgError
	switch {
	case err == nil && tag.String() != "COMMIT":
		return fmt.Errorf("%w: the server answered the commit with %s", ErrSQL, tag)
	case err != nil && c.pg.IsClosed(), errors.As(err, &pe) && pe.Code == "40003":
		c.close()
		return fmt.Errorf("%s: %w: %w: %w", c.eng.place(), errInDoubt, ErrServer, err)
	}
	return err
}

func (c *pgConn) rollback() error {
	c.batch, c.queued = nil, 0
	if c.pg.IsClosed() || c.pg.TxStatus() == 'I' { // BEGIN never went out
		return nil
	}
	return c.pg.Exec(background, "ROLLBACK").Close()
}

func (c *pgConn) lost() bool { return c.pg.IsClosed() }

func (c *pgConn) fresh() bool {
	//lint:ignore SA1019 Ping would cost every read a round trip; what this misses shows as ErrServer
	return c.pg.CheckConn() == nil
}

// close does not wait for the server's goodbye: nothing is under way.
func (c *pgConn) close() error {
	ctx, cancel := context.WithTimeout(background, time.Second)
	defer cancel()
	return c.pg.Close(ctx)
}

func (c *pgConn) place(err error) error {
	if placed(err) {
		return err
	}
	at := c.eng.place()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return fmt.Errorf("%s: %w: %w: %w", at, errAgain, ErrServer, err)
	}
	switch {
	case pe.Code == "40001" || pe.Code == "40P01":
		return fmt.Errorf("%s: %w: %w: %w", at, errAgain, ErrNotSaved, err)
	case pe.Code == "23502" && pe.TableName == "db_writer":
		return fmt.Errorf("%s: %w", at, ErrTaken)
	}
	return fmt.Errorf("%s: %w: %w", at, pgKind(pe.Code), err)
}

// pgKind says what a class of SQLSTATE means for whoever runs koala.
func pgKind(code string) error {
	switch code[:2] {
	case "08", "57": // connection, operator intervention
		return fmt.Errorf("%w: %w", errAgain, ErrServer)
	case "28", "3D":
		return ErrLogin
	case "53": // resources: only the full disk has a cure of its own
		if code == "53100" {
			return ErrFull
		}
		return ErrServer
	case "58":
		return ErrDisk
	case "XX":
		return ErrCorrupt
	}
	return ErrSQL
}

// placed says whether err already names what is wrong, or is the caller's own
// context that ended.
func placed(err error) bool {
	return fail.Of(err) != fail.ErrUnknown ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// The types both stores keep, by PostgreSQL's numbers (pg_type.oid).
const (
	oidBool    = 16
	oidBytea   = 17
	oidName    = 19
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidText    = 25
	oidFloat4  = 700
	oidFloat8  = 701
	oidUnknown = 705
	oidBPChar  = 1042
	oidVarchar = 1043
	oidNumeric = 1700
)

// encode appends one argument in the binary form of the parameter's type
// where that differs from text.
func (c *pgConn) encode(oid uint32, arg any) error {
	v, err := plain(arg)
	if err != nil {
		return err
	}
	var val []byte
	form := int16(1)
	from := len(c.arena)
	switch v := v.(type) {
	case nil:
	case int64:
		switch oid {
		case oidInt8:
			c.arena = binary.BigEndian.AppendUint64(c.arena, uint64(v))
		case oidText, oidVarchar, oidBytea, oidBool:
			return fmt.Errorf("%w: a number for a column that is none", ErrValue)
		default:
			val, form = strconv.AppendInt(nil, v, 10), 0
		}
	case string:
		if oid == oidBytea || oid == oidBool {
			return fmt.Errorf("%w: text for a column that is none", ErrValue)
		}
		val, form = []byte(v), 0
	case []byte:
		if val = v; oid != oidBytea {
			return fmt.Errorf("%w: bytes for a column that is not BYTEA", ErrValue)
		}
	case bool:
		if val = []byte{0}; v {
			val[0] = 1
		}
		if oid != oidBool {
			return fmt.Errorf("%w: a truth value for a column that is not BOOLEAN", ErrValue)
		}
	case float64:
		val, form = strconv.AppendFloat(nil, v, 'g', -1, 64), 0
	}
	if len(c.arena) > from {
		val = c.arena[from:]
	}
	c.vals, c.forms = append(c.vals, val), append(c.forms, form)
	return nil
}

// decodeRows reads all rows.
func decodeRows(rr *pgconn.ResultReader, fields []pgconn.FieldDescription) (*result, error) {
	res := &result{width: len(fields)}
	for rr.NextRow() {
		for i, raw := range rr.Values() {
			v, err := decode(fields[i].DataTypeOID, raw)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", fields[i].Name, err)
			}
			res.vals = append(res.vals, v)
		}
	}
	return res, nil
}

func decode(oid uint32, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil
	}
	switch oid {
	case oidInt8:
		return int64(binary.BigEndian.Uint64(raw)), nil
	case oidInt4:
		return int64(int32(binary.BigEndian.Uint32(raw))), nil
	case oidInt2:
		return int64(int16(binary.BigEndian.Uint16(raw))), nil
	case oidText, oidVarchar, oidBPChar, oidName, oidUnknown:
		return string(raw), nil
	case oidBytea:
		return append([]byte{}, raw...), nil
	case oidBool:
		return raw[0] != 0, nil
	case oidFloat8:
		return math.Float64frombits(binary.BigEndian.Uint64(raw)), nil
	case oidFloat4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(raw))), nil
	case oidNumeric:
		return wholeNumeric(raw)
	}
	return nil, fmt.Errorf("%w: PostgreSQL type %d", ErrValue, oid)
}

// wholeNumeric reads a NUMERIC without fraction, as sum(bigint) gives it:
// digit count, weight, sign and scale of 16 bits each, then digits of base
// 10,000.
func wholeNumeric(raw []byte) (any, error) {
	n := int(binary.BigEndian.Uint16(raw))
	weight := int(int16(binary.BigEndian.Uint16(raw[2:])))
	sign := binary.BigEndian.Uint16(raw[4:])
	if sign != 0 && sign != 0x4000 || n > weight+1 || weight > 4 {
		return nil, fmt.Errorf("%w: NUMERIC that is no whole number of 64 bits", ErrValue)
	}
	var v int64
	for i := range weight + 1 {
		d := int64(0)
		if i < n {
			d = int64(binary.BigEndian.Uint16(raw[8+2*i:]))
		}
		if v > (math.MaxInt64-d)/10_000 {
			return nil, fmt.Errorf("%w: NUMERIC beyond 64 bits", ErrValue)
		}
		v = v*10_000 + d
	}
	if sign != 0 {
		v = -v
	}
	return v, nil
}
