package main

import (
	"fmt"
	"math"
	"strings"
)

// series is one line of a plot over time: y in milliseconds for each second; NaN
// leaves a gap.
type series struct {
	name, colour string
	y            []float64
}

// span is a stretch of time with a name, in seconds.
type span struct {
	name     string
	from, to float64
	shaded   bool
}

// timePlot draws latencies over time on a logarithmic scale.
func timePlot(title string, lines []series, spans []span) string {
	const left, top, width, height = 60, 60, 1000, 420
	seconds, low, high := 1.0, 0.1, 10.0
	for _, l := range lines {
		seconds = max(seconds, float64(len(l.y)))
		for _, v := range l.y {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	x := func(t float64) float64 { return left + t/seconds*(width-left-20) }
	y := func(v float64) float64 {
		return height - 40 - (math.Log10(max(v, low))-math.Log10(low))/(math.Log10(high)-math.Log10(low))*(height-40-top)
	}
	var s strings.Builder
	fmt.Fprintf(&s, svgHead, width, height, width, height, escape(title))
	for i, p := range spans {
		if p.shaded {
			fmt.Fprintf(&s, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#fbe9e7"/>`, x(p.from), top, x(p.to)-x(p.from), height-40-top)
		}
		fmt.Fprintf(&s, `<text x="%.1f" y="%d" font-size="10" fill="#444">%s</text>`+"\n", x(p.from)+2, top-4-12*(i%2), escape(p.name))
	}
	for v := low; v <= high*1.001; v *= 10 {
		fmt.Fprintf(&s, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#666">%g ms</text>`+"\n", left, y(v), width-20, y(v), left-4, y(v)+4, v)
	}
	step := math.Max(1, math.Ceil(seconds/10/5)*5)
	for t := 0.0; t <= seconds; t += step {
		fmt.Fprintf(&s, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%.0f s</text>`+"\n", x(t), height-22, t)
	}
	for i, l := range lines {
		var points []string
		flush := func() {
			if len(points) > 0 {
				fmt.Fprintf(&s, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", l.colour, strings.Join(points, " "))
			}
			points = nil
		}
		for t, v := range l.y {
			if math.IsNaN(v) {
				flush()
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(t)+0.5), y(v)))
		}
		flush()
		fmt.Fprintf(&s, `<rect x="%d" y="%d" width="12" height="3" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", left+i*200, height-8, l.colour, left+16+i*200, height-4, escape(l.name))
	}
	return s.String() + "</svg>\n"
}
