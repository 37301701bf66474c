package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFleetCostOfSharedLimits measures memory, strict and lease beside each other: three
// gates each, in turns, so that what else the machine does hits all alike. In its
// short form it checks only that all modes answer under full load; HIVEGATE_FLEET=full
// prints requests per second and CPU per request of the gates.
func TestFleetCostOfSharedLimits(t *testing.T) {
	turns, each := 1, 300*time.Millisecond
	if full("HIVEGATE_FLEET") {
		turns, each = 8, 3*time.Second
	}
	const limits = "plan p {\n requests 1000000000/m\n}\n default_plan p\n"
	type subject struct {
		mode   string
		f      *redisFleet
		keys   []created
		n      int64
		took   time.Duration
		cpu    time.Duration
		server time.Duration
	}
	var all []*subject
	for _, mode := range []string{"memory", "direct patient mode strict", "direct patient mode lease"} {
		s := &subject{mode: mode, f: startRedisFleet(t, ownRedis(t), 3, mode, limits)}
		s.f.upEverywhere(t, 10*time.Second, 1)
		s.keys = s.f.owners(t, 20)
		all = append(all, s)
	}
	for turn := range turns + 1 {
		for _, s := range all {
			hammer(t, s.f, s.keys, each/4)
			before, beforeServer := s.f.cpu(t), cpuOfProcess(t, s.f.redis.Pid())
			begin := time.Now()
			n := hammer(t, s.f, s.keys, each)
			took := time.Since(begin)
			if turn > 0 { // the first warms up
				s.n += n
				s.took += took
				s.cpu += s.f.cpu(t) - before
				s.server += cpuOfProcess(t, s.f.redis.Pid()) - beforeServer
			}
		}
	}
	memory := all[0]
	for _, s := range all {
		rate := float64(s.n) / s.took.Seconds()
		base := float64(memory.n) / memory.took.Seconds()
		cpu := s.cpu / time.Duration(max(s.n, 1))
		t.Logf("%-28s %7.0f requests a second (%+5.1f %%), CPU of the gates %6s a request (%+5.1f %%), of Redis %6s", s.mode, rate, 100*(rate/base-1),
			cpu.Round(100*time.Nanosecond), 100*(float64(s.cpu)/float64(s.n)/(float64(memory.cpu)/float64(memory.n))-1),
			(s.server / time.Duration(max(s.n, 1))).Round(100*time.Nanosecond))
		if s.n == 0 {
			t.Errorf("%s: no request was answered", s.mode)
		}
	}
}

// cpu is what all gates have used.
func (f *redisFleet) cpu(t testing.TB) (sum time.Duration) {
	t.Helper()
	for _, g := range f.gates {
		sum += g.cpuOf(t)
	}
	return sum
}

func cpuOfProcess(t testing.TB, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return cpuOfStat(t, string(raw))
}

// hammer sends as many requests as the gates answer.
func hammer(t *testing.T, f *redisFleet, keys []created, lasts time.Duration) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lasts)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	for i, g := range f.gates {
		for w := range 8 {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true}}
				defer client.CloseIdleConnections()
				for j := i + w; ctx.Err() == nil; j++ {
					r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/farms", nil)
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set("Authorization", "Bearer "+keys[j%len(keys)].Key)
					resp, err := client.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Errorf("%s: %d %s", g.sites[0], resp.StatusCode, resp.Header.Get("X-Hivegate-Reason"))
						return
					}
					n.Add(1)
				}
			})
		}
	}
	wg.Wait()
	return n.Load()
}
