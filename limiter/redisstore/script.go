package redisstore

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

//go:embed decide.lua
var decideLua string

//go:embed beat.lua
var beatLua string

var (
	decideScript = rueidis.NewLuaScript(decideLua)
	beatScript   = rueidis.NewLuaScript(beatLua)
)

// What the script is asked for; decide.lua says what each means.
const (
	opDecide = "d"
	opCheck  = "c"
	opPeek   = "p"
	opRefund = "r"
	opMerge  = "m"
)

// Outcomes of the script.
const (
	outAllowed = iota
	outNoTokens
	outNoSlot
	outNeither
)

var errReply = errors.New("the server's answer is not that of the limiter's script")

// ask is one call of the script.
type ask struct {
	op      string
	buckets []limiter.Total
	words   []string // of each bucket; nil: all empty
	slots   []slotTotal
	id      string   // of the slots' lease
	epochs  []uint64 // of the leases that words report on
}

// reply is what the script says of one bucket.
type reply struct {
	limiter.Snapshot
	lent int   // tokens that the node now holds
	gen  int64 // the generation they were lent in
}

// args are the script's arguments.
func (s *Store) args(a *ask, now time.Time) (keys, args []string) {
	keys = make([]string, 0, len(a.buckets)+len(a.slots))
	args = make([]string, 0, 5+3*len(a.buckets)+2*len(a.slots))
	clock := ""
	if s.opts.HandClock {
		clock = strconv.FormatInt(micros(now), 10)
	}
	args = append(args, a.op, clock, strconv.Itoa(len(a.buckets)), slotLifeArg, a.id)
	for i := range a.buckets {
		b := &a.buckets[i]
		word := ""
		if a.words != nil {
			word = a.words[i]
		}
		keys = append(keys, s.bucketKey(b.Limit.Policy, b.Subject))
		args = append(args, figures(b.Limit), strconv.Itoa(b.Cost), word)
	}
	for i := range a.slots {
		t := &a.slots[i]
		keys = append(keys, s.slotKey(t.name, t.subject))
		args = append(args, strconv.Itoa(t.room), strconv.Itoa(t.count))
	}
	return keys, args
}

var slotLifeArg = strconv.FormatInt(slotLife.Microseconds(), 10)

// figures are a limit's as the script keeps and compares them; the shortest text
// that reads back as the same double is exact.
func figures(l *limiter.Limit) string {
	b := make([]byte, 0, 48)
	b = strconv.AppendInt(b, int64(l.N), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(l.Per), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(l.Burst), 10)
	b = append(b, ' ')
	return string(strconv.AppendFloat(b, l.Rate(), 'g', -1, 64))
}

// micros is t in whole microseconds since 1970, rounded down.
func micros(t time.Time) int64 { return t.UnixMicro() }

// parse reads the script's reply about n buckets.
func parse(text string, n int, replies []reply) (outcome int, _ []reply, err error) {
	next := func() (word string) {
		word, text, _ = strings.Cut(text, " ")
		return word
	}
	if outcome, err = strconv.Atoi(next()); err != nil || outcome < outAllowed || outcome > outNeither {
		return 0, nil, errReply
	}
	for range n {
		var r reply
		var err1, err2, err3, err4, err5 error
		var age, ahead int64
		r.Tokens, err1 = strconv.ParseFloat(next(), 64)
		age, err2 = strconv.ParseInt(next(), 10, 64)
		ahead, err3 = strconv.ParseInt(next(), 10, 64)
		r.lent, err4 = strconv.Atoi(next())
		r.gen, err5 = strconv.ParseInt(next(), 10, 64)
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errReply, err)
		}
		r.Age, r.Ahead = duration(age), duration(ahead)
		replies = append(replies, r)
	}
	if text != "" {
		return 0, nil, errReply
	}
	return outcome, replies, nil
}

// duration is so many microseconds, at most a century.
func duration(us int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Microsecond)
	return time.Duration(max(min(us, most), 0)) * time.Microsecond
}
