package main

import (
	"fmt"
	"strings"
)

// bar is one line of a bar plot; low and high are its quartiles, aim is what it
// should not exceed (0: nothing).
type bar struct {
	name                  string
	value, low, high, aim float64
}

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="10" y="20" font-size="14" font-weight="bold">%s</text>
`

// barPlot draws ratios as horizontal bars, from 0; what exceeds its aim is red.
func barPlot(title string, bars []bar) string {
	const left, width, row = 330, 900, 24
	most := 1.2
	for _, b := range bars {
		most = max(most, b.high*1.05, b.aim*1.05)
	}
	height := 60 + row*len(bars)
	x := func(v float64) float64 { return left + v/most*(width-left-60) }
	var s strings.Builder
	fmt.Fprintf(&s, svgHead, width, height, width, height, escape(title))
	for v := 0.0; v <= most; v += 0.25 {
		fmt.Fprintf(&s, `<line x1="%.1f" y1="30" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle" fill="#666">%.2f</text>`+"\n", x(v), x(v), height-24, x(v), height-8, v)
	}
	fmt.Fprintf(&s, `<line x1="%.1f" y1="30" x2="%.1f" y2="%d" stroke="#666"/>`+"\n", x(1), x(1), height-24)
	for i, b := range bars {
		y := 34 + i*row
		colour := "#4a7ebb"
		if b.aim > 0 && b.value > b.aim+0.0005 {
			colour = "#c0504d"
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%.1f" y="%d" width="%.1f" height="16" fill="%s"/>`, left-8, y+13, escape(b.name), x(0), y, x(b.value)-x(0), colour)
		fmt.Fprintf(&s, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="black"/><text x="%.1f" y="%d">%.3f</text>`, x(b.low), y+8, x(b.high), y+8, x(max(b.high, b.value, b.aim))+6, y+13, b.value)
		if b.aim > 0 {
			fmt.Fprintf(&s, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="black" stroke-width="2"/>`, x(b.aim), y-2, x(b.aim), y+18)
		}
		s.WriteString("\n")
	}
	return s.String() + "</svg>\n"
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
